// The entrance: finds out who a request comes from. What he may do is his rights' to say, and the route's to ask.

import { type Login, refusedLogin } from '../amqp/wire/connection.js'
import { type Config, ConfigError, isOpen } from '../config/index.js'
import type { Log } from '../lib/log.js'
import { Problem } from '../problems.js'
import { ApiKeys } from './api-keys.js'
import { BrokerUsers } from './broker-users.js'
import { readCredentials } from './credentials.js'
import { ANYBODY, type Identity } from './identity.js'
import { KeySetError } from './jwks.js'
import { JwtVerifier, TokenRefused } from './jwt.js'
import { headerError, KeyFileError } from './key-file.js'
import type { ProtectedRoute } from './requirements.js'

export interface AuthenticationOptions {
  config: Config
  log: Log
}

export class Authentication {
  /** Whether nobody is asked who he is. */
  readonly isOpen: boolean
  /** Every route with what it wants, once all are registered. */
  readonly protectedRoutes: ProtectedRoute[] = []
  readonly #keys: ApiKeys | undefined
  readonly #tokens: JwtVerifier | undefined
  readonly #logins: BrokerUsers | undefined
  /** What to call what is asked for. */
  readonly #what: string

  /** @throws ConfigError with every mistake in the files that the configuration names */
  constructor({ config, log }: AuthenticationOptions) {
    this.isOpen = isOpen(config.AUTH)
    if (config.AUTH.includes('keys')) this.#keys = readKeys(config.API_KEYS_FILE, log)
    if (config.AUTH.includes('jwt')) this.#tokens = readTokens(config, log)
    if (config.AUTH.includes('broker')) this.#logins = new BrokerUsers(config)
    this.#what = [this.#keys && 'key', this.#tokens && 'token'].filter(Boolean).join(' or ')
  }

  /** Calls the listener with every user that RabbitMQ no longer accepts, with AUTH=broker. */
  onUserGone(listener: (login: Login) => void): void {
    this.#logins?.onGone(listener)
  }

  /** Why it can't be told who somebody is; undefined where it can. */
  get notReady(): string | undefined {
    return this.#tokens?.notReady
  }

  /**
   * Who a request comes from, or the problem to answer. A promise only where that has to be found out.
   * @param rawHeaders as Node has them
   * @param place where it comes from; asked for where that counts
   */
  identify(rawHeaders: readonly string[], place: () => string): Identity | Problem | Promise<Identity | Problem> {
    if (this.isOpen) return ANYBODY
    const credentials = readCredentials(rawHeaders)
    if (this.#logins) return byLogin(this.#logins, credentials, place)
    if (credentials === 'none') return unauthorized(`Send a ${this.#what}: authorization: Bearer <${this.#what}>.`, false)
    if (credentials === 'bad') return unauthorized('The authorization header is not one that is understood here.', true)
    const found = this.#keys?.find(credentials.secret)
    if (found === 'expired') return unauthorized('The key has expired.', true)
    if (found) return found
    if (this.#tokens && JwtVerifier.looksLikeOne(credentials.secret)) return this.#byToken(this.#tokens, credentials.secret)
    return unauthorized(`The ${this.#what} is not known here.`, true)
  }

  #byToken(tokens: JwtVerifier, secret: string): Identity | Promise<Identity | Problem> {
    const found = tokens.find(secret)
    return found instanceof Promise ? found.catch(refusalProblem) : found
  }

  /** The answer to whoever was let in and would not be any more. */
  expired(): Problem {
    return this.#logins ? refusedLogin() : unauthorized('The credentials of the request are over.', true)
  }

  /** Reads what it knows from files again. */
  reload(): void {
    this.#keys?.reload()
    this.#tokens?.reload()
  }

  close(): void {
    this.#keys?.close()
    this.#tokens?.close()
  }
}

function byLogin(logins: BrokerUsers, credentials: ReturnType<typeof readCredentials>, place: () => string) {
  if (credentials === 'none' || credentials === 'bad') return refusedLogin()
  try {
    const found = logins.find(credentials, place)
    return found instanceof Promise ? found.catch(refusalProblem) : found
  } catch (error) {
    return refusalProblem(error)
  }
}

function refusalProblem(error: unknown): Problem {
  if (error instanceof TokenRefused) return unauthorized(error.message, true)
  if (error instanceof Problem) return error
  throw error
}

function readKeys(path: string, log: Log): ApiKeys {
  try {
    return new ApiKeys(path, log)
  } catch (error) {
    if (!(error instanceof KeyFileError)) throw error
    throw new ConfigError(error.mistakes.map((mistake) => `API_KEYS_FILE ${path}: ${mistake}`))
  }
}

function readTokens(config: Config, log: Log): JwtVerifier {
  const mistakes = config.JWT_HEADERS.flatMap(({ header }) => {
    const mistake = headerError(header, '')
    return mistake ? [`JWT_HEADERS ${mistake}: ${header}`] : []
  })
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  try {
    return new JwtVerifier(config, log)
  } catch (error) {
    if (!(error instanceof KeySetError)) throw error
    throw new ConfigError([`JWT_JWKS_FILE ${config.JWT_JWKS_FILE}: ${error.message}`])
  }
}

const REALM = 'realm="rabbitmq-http-gateway"'

/** @param given whether there were credentials: then RFC 6750 has a word for what is wrong with them */
function unauthorized(detail: string, given: boolean): Problem {
  return new Problem('unauthorized', detail, { challenge: `Bearer ${REALM}${given ? ', error="invalid_token"' : ''}` })
}
