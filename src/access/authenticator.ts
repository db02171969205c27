// One way to find out who calls: API keys, JSON Web Tokens, users of RabbitMQ. A scheme is one file that implements
// `Authenticator` and one entry in the list of authentication.ts.

import type { Login } from '../amqp/wire/connection.js'
import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import { Problem } from '../problems.js'
import type { Credentials, Unreadable } from './credentials.js'
import type { Identity } from './identity.js'

/** A request, as far as authenticators look at it. */
export interface AuthenticationRequest {
  readonly method: string
  /** Path and query as they were sent. */
  readonly url: string
  /** Node's list of names and values, in their order. A signature may cover them. */
  readonly rawHeaders: readonly string[]
  /**
   * The `Authorization` header; missing: there is none; malformed: it is unreadable, or of a scheme other than Bearer and Basic;
   * too_long: it is longer than 16 KiB.
   */
  readonly credentials: Credentials | Unreadable
  /** The IP address of the client; empty if the connection is already closed. */
  readonly address: string
}

/** Tells who sent a request by one kind of credentials. */
export interface Authenticator {
  /** What clients send, in a word for a 401: "Send a key". */
  readonly credential: string
  /**
   * Looks up the caller.
   * @returns the caller; a problem if the credentials are of this kind and refused, or cannot be checked at the moment;
   *   undefined if they are of another kind or unknown, so that the next authenticator is asked. A promise only if the answer
   *   takes I/O or a signature check; it never rejects with an expected failure.
   */
  find(request: AuthenticationRequest): Identity | Problem | undefined | Promise<Identity | Problem>
  /** The 401 for every request that is not authenticated, if it is not one that asks for a Bearer credential. */
  refuse?(): Problem
  /** Why nobody can be authenticated at the moment; undefined if they can. */
  readonly notReady?: string | undefined
  /** Reads its files again. If they have mistakes, the gateway keeps what it read before. */
  reload?(): void
  /** Calls the listener with each RabbitMQ user that RabbitMQ no longer accepts. */
  onUserGone?(listener: (login: Login) => void): void
  /** Stops timers and watches. */
  close?(): void
}

/** What an authenticator is made with. */
export interface AuthenticatorOptions {
  config: Config
  log: Log
}

const REALM = 'realm="rabbitmq-http-gateway"'

/**
 * The 401 that asks for a Bearer credential.
 * @param wereSent whether there were credentials, which RFC 6750 then calls invalid
 */
export function bearerRefusal(detail: string, wereSent: boolean): Problem {
  return new Problem('unauthorized', detail, { challenge: `Bearer ${REALM}${wereSent ? ', error="invalid_token"' : ''}` })
}
