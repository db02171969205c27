// The caller of a request: a name, rights, and what the gateway puts on the messages they publish.

import type { Login } from '../amqp/wire/connection.js'
import { ALL_RIGHTS, type Rights } from './rights.js'

/** An authenticated caller. */
export interface Identity {
  /** For the log and the rate limit, the same for all requests of a caller: `key orders-worker`, `token …`, `user …`. */
  readonly name: string
  readonly rights: Rights
  /** Why they have no right at all, for a 403; absent if they have one, or if there is nothing to tell. */
  readonly withoutRights?: string
  /** AMQP headers that the gateway sets on every message they publish. They replace the caller's own of the same name. */
  readonly headers: Readonly<Record<string, string>> | undefined
  /** Whether they may set a message's `user_id`. RabbitMQ only accepts the user of the AMQP connection in it. */
  readonly setsUserId: boolean
  /** The RabbitMQ user to act as, if RabbitMQ decides what the caller may do (AUTH=broker). */
  readonly login?: Login | undefined
  /** The identity as it is now, for long requests: undefined once the key was withdrawn or the credentials have expired. */
  readonly current: () => Identity | undefined
}

/** Every caller of a gateway that does not authenticate. */
export const ANYBODY: Identity = Object.freeze({
  name: '',
  rights: ALL_RIGHTS,
  headers: undefined,
  setsUserId: true,
  current: () => ANYBODY,
})
