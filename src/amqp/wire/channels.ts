// How many channels may be open: what RabbitMQ announces for a connection, and what it only tells by ending a connection once a
// user has too many of them.

import type { Config } from '../../config/index.js'
import { now } from '../../lib/clock.js'
import { unreachable } from '../../lib/unreachable.js'

/** What a connection is for. quarantine: receives from queues whose messages may end it, see `consume/quarantine.ts`. */
export type Role = 'lease' | 'quarantine' | 'publish' | 'admin'

/** After this time a limit is tried again: an administrator may have raised it. */
const REMEMBER_LIMIT_MS = 60 * 60_000
/** The most that publishing and declaring are left of a limit. The rest, at least half, is for receives and leases. */
const MAX_SHARE = { publish: 64, admin: 16 }
/** A refusal below a known limit means that others use it too: then this share of it is kept. */
const KEPT_SHARE = 0.75

/** The channels of one user of RabbitMQ on all connections of this gateway together. */
export class UserChannels {
  readonly open: Record<Role, number> = { lease: 0, quarantine: 0, publish: 0, admin: 0 }
  #limit = Number.POSITIVE_INFINITY
  /** Of the monotonic clock, in milliseconds. */
  #learnedAt = 0

  /** RabbitMQ refused a channel that was open, or being opened. @param announced the limit that it named */
  refused(announced: number): void {
    const { lease, quarantine, publish, admin } = this.open
    const known = this.#current()
    const others = known === Number.POSITIVE_INFINITY ? announced : Math.floor(known * KEPT_SHARE)
    this.#limit = Math.max(1, Math.min(announced, others, lease + quarantine + publish + admin - 1))
    this.#learnedAt = now()
  }

  /** How many channels the connections of a role may have open together. */
  share(role: Role): number {
    const limit = this.#current()
    if (limit === Number.POSITIVE_INFINITY) return limit
    const publish = Math.max(1, Math.min(MAX_SHARE.publish, Math.floor(limit / 4)))
    const admin = Math.max(1, Math.min(MAX_SHARE.admin, Math.floor(limit / 8)))
    switch (role) {
      case 'lease':
      case 'quarantine':
        return Math.max(1, limit - publish - admin)
      case 'publish':
        return publish
      case 'admin':
        return admin
      default:
        return unreachable(role)
    }
  }

  #current(): number {
    return now() - this.#learnedAt < REMEMBER_LIMIT_MS ? this.#limit : Number.POSITIVE_INFINITY
  }
}

const users = new WeakMap<object, UserChannels>()

/** The channels of a RabbitMQ user, or of the gateway's own user if `login` is absent. */
export function channelsOf(config: Config, login: object | undefined): UserChannels {
  const user = login ?? config
  let channels = users.get(user)
  if (!channels) {
    channels = new UserChannels()
    users.set(user, channels)
  }
  return channels
}
