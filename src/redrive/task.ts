// A redrive: its request and its progress, as a definition for every instance and as JSON for clients.

import type { WrittenRights } from '../access/rights.js'

export const REDRIVE_KIND = 'redrive'

export type RedriveState = 'running' | 'done' | 'stopped' | 'failed'

/** `routing_key` absent: each message's own. The default exchange is `amq.default`. */
export type RedriveTarget = { queue: string } | { exchange: string; routing_key?: string }

/** The conditions that a message must match, all of them. */
export interface RedriveFilter {
  /** Headers in their JSON form. */
  header?: Record<string, unknown>
  /** Why it was dead-lettered, in RabbitMQ's words. */
  reason?: 'rejected' | 'expired' | 'maxlen' | 'delivery_limit'
}

export interface RedriveRequest {
  vhost: string
  queue: string
  /** Absent: each message goes to the queue that it came from. */
  to?: RedriveTarget
  /** The most messages to move. */
  max?: number
  /** The most messages to move a second. */
  rate?: number
  filter?: RedriveFilter
  dry_run: boolean
}

/** The counts of the present sweep over the queue; `moved` counts all sweeps. */
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
  /** Messages in the queue at the begin. No more are looked at, so that a message that dies again does not move in circles. */
  total: number
  started_at: string
  updated_at: string
  ended_at?: string
  /** The instance that moves them; absent: any instance may take over. */
  instance?: string
  /** A client has asked to stop it. */
  stop?: true
}

/** The redrive as clients see it. */
export function redriveToJson(task: RedriveTask) {
  const { rights: _, stop: __, ...visible } = task
  return visible
}
