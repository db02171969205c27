// Who asks: a name, what he may do, and what the gateway puts on his messages.

import type { Login } from '../amqp/wire/connection.js'
import { ALL_RIGHTS, type Rights } from './rights.js'

export interface Identity {
  /** For the log and the rate limit, the same for all of his requests: `key orders-worker`, `token …`, `user …`. */
  readonly name: string
  readonly rights: Rights
  /** AMQP headers on every message he publishes, whatever he sends himself. */
  readonly headers: Readonly<Record<string, string>> | undefined
  /** Whether he may set a message's `user_id`, which can only be the user of the AMQP connection. */
  readonly setsUserId: boolean
  /** Where RabbitMQ decides what he may do: as whom. */
  readonly login?: Login | undefined
  /** Who he is by now, for what lasts: undefined when his key was taken away, or his time is over. */
  readonly current: () => Identity | undefined
}

/** Whoever comes in where nobody is asked. */
export const ANYBODY: Identity = Object.freeze({
  name: '',
  rights: ALL_RIGHTS,
  headers: undefined,
  setsUserId: true,
  current: () => ANYBODY,
})
