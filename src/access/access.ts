// The entrance: finds out who a request comes from. What he may do is his rights' to say, and the route's to ask.

import { type Config, ConfigError, isOpen } from '../config.js'
import type { Log } from '../log.js'
import { Problem } from '../problems.js'
import { readCredentials } from './credentials.js'
import { ANYBODY, type Identity } from './identity.js'
import { KeyFileError } from './key-file.js'
import { ApiKeys } from './keys.js'
import type { Door } from './requirements.js'

export interface AccessOptions {
  config: Config
  log: Log
}

export class Access {
  /** Whether nobody is asked who he is. */
  readonly isOpen: boolean
  /** Every route with what it wants, once all are registered. */
  readonly doors: Door[] = []
  readonly #keys: ApiKeys | undefined

  /** @throws ConfigError with every mistake in the files that the configuration names */
  constructor({ config, log }: AccessOptions) {
    this.isOpen = isOpen(config.AUTH)
    if (config.AUTH.includes('keys')) this.#keys = readKeys(config.API_KEYS_FILE, log)
  }

  /**
   * Who a request comes from, or the problem to answer.
   * @param rawHeaders as Node has them
   */
  identify(rawHeaders: readonly string[]): Identity | Problem {
    if (this.isOpen) return ANYBODY
    const credentials = readCredentials(rawHeaders)
    if (credentials === 'none') return unauthorized('Send a key: authorization: Bearer <key>.', false)
    if (credentials === 'bad') return unauthorized('The authorization header is not one that is understood here.', true)
    const found = this.#keys?.find(credentials.secret)
    if (found === 'expired') return unauthorized('The key has expired.', true)
    return found ?? unauthorized('The key is not known here.', true)
  }

  /** Reads what it knows from files again. */
  reload(): void {
    this.#keys?.reload()
  }

  close(): void {
    this.#keys?.close()
  }
}

function readKeys(path: string, log: Log): ApiKeys {
  try {
    return new ApiKeys(path, log)
  } catch (error) {
    if (!(error instanceof KeyFileError)) throw error
    throw new ConfigError(error.mistakes.map((mistake) => `API_KEYS_FILE ${path}: ${mistake}`))
  }
}

const REALM = 'realm="rabbitmq-http-gateway"'

/** @param given whether there were credentials: then RFC 6750 has a word for what is wrong with them */
function unauthorized(detail: string, given: boolean): Problem {
  return new Problem('unauthorized', detail, { challenge: `Bearer ${REALM}${given ? ', error="invalid_token"' : ''}` })
}
