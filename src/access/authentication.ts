// Authentication: the authenticators that AUTH names, asked in their order. Rights are checked by the routes' requirements.

import type { Login } from '../amqp/wire/connection.js'
import { isOpen } from '../config/index.js'
import type { Problem } from '../problems.js'
import { createApiKeys } from './api-keys.js'
import { type AuthenticationRequest, type Authenticator, type AuthenticatorOptions, bearerRefusal } from './authenticator.js'
import { createBrokerUsers } from './broker-users.js'
import { readCredentials } from './credentials.js'
import { ANYBODY, type Identity } from './identity.js'
import { createJwtVerifier } from './jwt.js'
import type { ProtectedRoute } from './requirements.js'

/** Every scheme, in the order in which they are asked. Each gives undefined if AUTH does not name it. */
const SCHEMES: readonly ((options: AuthenticatorOptions) => Authenticator | undefined)[] = [
  createApiKeys,
  createJwtVerifier,
  createBrokerUsers,
]

/** Finds out who sends a request, with the authenticators that AUTH names. */
export class Authentication {
  /** Whether the gateway does not authenticate (AUTH=none, or AUTH not set). */
  readonly isOpen: boolean
  /** Every route with its requirement, once all routes are registered. */
  readonly protectedRoutes: ProtectedRoute[] = []
  readonly #authenticators: readonly Authenticator[]

  /** @throws ConfigError with every mistake in the files that the configuration names */
  constructor(options: AuthenticatorOptions) {
    this.isOpen = isOpen(options.config.AUTH)
    this.#authenticators = SCHEMES.flatMap((create) => create(options) ?? [])
  }

  /** Why callers cannot be authenticated at the moment; undefined if they can. */
  get notReady(): string | undefined {
    return this.#authenticators.map((one) => one.notReady).find((reason) => reason !== undefined)
  }

  /**
   * Finds out who sent a request.
   * @returns the caller, or the problem to answer with: `unauthorized`, `authority_unavailable`, and with AUTH=broker also
   *   `rate_limited`, `overloaded` and `broker_unavailable`. A promise only if the caller is not known yet.
   */
  identify(request: Omit<AuthenticationRequest, 'credentials'>): Identity | Problem | Promise<Identity | Problem> {
    if (this.isOpen) return ANYBODY
    const credentials = readCredentials(request.rawHeaders)
    const read: AuthenticationRequest = { ...request, credentials }
    for (const authenticator of this.#authenticators) {
      const found = authenticator.find(read)
      if (found !== undefined) return found
    }
    const what = this.#authenticators.map(({ credential }) => credential).join(' or ')
    if (credentials === 'missing') return this.#refuse(`Send a ${what}: authorization: Bearer <${what}>.`, false)
    if (credentials === 'malformed')
      return this.#refuse(
        `The authorization header is malformed, or has an unknown scheme. Send authorization: Bearer <${what}>.`,
        true,
      )
    if (credentials === 'too_long')
      return this.#refuse(
        'The authorization header is longer than 16 KiB. A token with many groups in it needs fewer of them.',
        true,
      )
    return this.#refuse(`The ${what} is unknown.`, true)
  }

  /** The problem for a caller who was authenticated and no longer is. */
  expired(): Problem {
    return this.#refuse('The credentials of the request are no longer valid.', true)
  }

  /** Reads keys from their files again. If a file has mistakes, the keys from before stay in force. */
  reload(): void {
    for (const authenticator of this.#authenticators) authenticator.reload?.()
  }

  /** Calls the listener with each RabbitMQ user that RabbitMQ no longer accepts (AUTH=broker). */
  onUserGone(listener: (login: Login) => void): void {
    for (const authenticator of this.#authenticators) authenticator.onUserGone?.(listener)
  }

  /** Stops all timers and watches. */
  close(): void {
    for (const authenticator of this.#authenticators) authenticator.close?.()
  }

  #refuse(detail: string, wereSent: boolean): Problem {
    const own = this.#authenticators.find((one) => one.refuse)
    return own?.refuse?.() ?? bearerRefusal(detail, wereSent)
  }
}
