// What can be asked of leases, in one form for clients and for other instances. Commands always come in lists, since a list that
// travels and is confirmed together costs as much as a single command.

import type { Disposition } from '../amqp/consume/delivery.js'
import { timestamp } from '../lib/clock.js'
import type { ProblemCode } from '../problems.js'
import type { CopyChanges, NewFailure } from './settlements.js'
import type { Lease } from './table.js'

export type LeaseCommand =
  | { id: string; op: 'settle'; action: Disposition; failure?: NewFailure }
  /** `delay`: milliseconds until the message comes again. */
  | { id: string; op: 'settle'; action: 'later'; delay: number; changes?: CopyChanges; failure?: NewFailure }
  /** `lease`: milliseconds from now; absent: the duration that it was leased for. */
  | { id: string; op: 'extend'; lease?: number }
  | { id: string; op: 'get' }

/** An open lease, as clients see it. */
export interface LeaseView {
  id: string
  queue: string
  vhost: string
  leased_at: string
  expires_at: string
  message_id?: string
  delivery_count?: number
}

/** The result of one command: success, or the problem. */
export type LeaseResult = { ok: true; view?: LeaseView } | { ok: false; code: ProblemCode; detail: string }

/** A command that failed. */
export const failedResult = (code: ProblemCode, detail: string): LeaseResult => ({ ok: false, code, detail })

const LEASE_GONE =
  'The lease expired, or its instance, connection or queue is gone. If the queue still exists, the message is back in it.'
/** The lease ran out. */
export const expiredResult = (): LeaseResult =>
  failedResult('lease_gone', 'The lease expired before it was settled or extended, and the message went back to its queue.')
/** The lease is over. */
export const goneResult = (): LeaseResult => failedResult('lease_gone', LEASE_GONE)
/** The connection was lost before RabbitMQ confirmed the settle. */
export const settleOutcomeUnknown = (): LeaseResult =>
  failedResult('settle_outcome_unknown', 'The connection was lost before RabbitMQ was known to have taken the settle. Ask again.')
/** The lease was settled in another way. */
export const conflictResult = (): LeaseResult => failedResult('already_settled', 'The lease was already settled in another way.')

/** An open lease, as clients see it. */
export function viewOf({ id, queue, vhost, leasedAt, expiresAt, delivery }: Lease): LeaseView {
  const { messageId } = delivery.properties
  const { deliveryCount: count } = delivery
  return {
    id,
    queue,
    vhost,
    leased_at: timestamp(leasedAt),
    expires_at: timestamp(expiresAt),
    ...(messageId !== undefined && { message_id: messageId }),
    ...(count !== undefined && { delivery_count: count }),
  }
}
