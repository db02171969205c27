// A redrive: what was asked for and how far it is, as it stands among the definitions for every instance, and as it is shown.

import type { WrittenRights } from '../access/rights.js'

export const REDRIVE_KIND = 'redrive'

export type RedriveState = 'running' | 'done' | 'stopped' | 'failed'

/** `routing_key` absent: each message's own. The default exchange is `amq.default`. */
export type RedriveTarget = { queue: string } | { exchange: string; routing_key?: string }

/** What a message has to have, all of it. */
export interface RedriveFilter {
  /** Headers in their JSON form. */
  header?: Record<string, unknown>
  /** Why it died, in RabbitMQ's words. */
  reason?: 'rejected' | 'expired' | 'maxlen' | 'delivery_limit'
}

export interface RedriveRequest {
  vhost: string
  queue: string
  /** Absent: where each message came from. */
  to?: RedriveTarget
  /** So many are moved at most. */
  max?: number
  /** So many a second are moved at most. */
  rate?: number
  filter?: RedriveFilter
  dry_run: boolean
}

/** In the present go over the queue, but for `moved`, which is of all. */
export interface RedriveCounts {
  moved: number
  matched: number
  skipped: number
  failed: number
}

export interface RedriveTask extends RedriveRequest, RedriveCounts {
  id: string
  /** `write` of whoever asked for it: each message is moved only where he may publish. */
  rights: WrittenRights
  state: RedriveState
  last_error?: string
  /** Messages in the queue when it began: no more are looked at, so that what dies again is not moved in a circle. */
  total: number
  started_at: string
  updated_at: string
  ended_at?: string
  /** Who moves them; absent: whoever wants to. */
  instance?: string
  /** Somebody wants it to end. */
  stop?: true
}

/** For clients. */
export function redriveToJson(task: RedriveTask) {
  const { rights: _, stop: __, ...visible } = task
  return visible
}
