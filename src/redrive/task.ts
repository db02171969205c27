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
  /** The most messages to move. */
  max?: number
  /** The most messages to move a second. */
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
  /** The caller's right to `write`: a message moves only to a target that the caller may publish to. */
  rights: WrittenRights
  state: RedriveState
  last_error?: string
  /** Messages in the queue when it began: no more are looked at, so that what dies again is not moved in a circle. */
  total: number
  started_at: string
  updated_at: string
  ended_at?: string
  /** The instance that moves them; absent: any instance may take over. */
  instance?: string
  /** Somebody wants it to end. */
  stop?: true
}

/** For clients. */
export function redriveToJson(task: RedriveTask) {
  const { rights: _, stop: __, ...visible } = task
  return visible
}
