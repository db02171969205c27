// What one may ask of leases, one form for everywhere: from a client, and from instance to instance. Always a list, since a
// list that travels and is confirmed together costs as much as one.

import type { Disposition } from '../amqp/consume/delivery.js'
import type { ProblemCode } from '../problems.js'
import type { CopyChanges } from './settlements.js'
import type { Lease } from './table.js'

export type LeaseCommand =
  | { id: string; op: 'settle'; verdict: Disposition }
  | { id: string; op: 'settle'; verdict: 'later' /** milliseconds until it comes again */; delay: number; changes?: CopyChanges }
  | { id: string; op: 'extend' /** milliseconds; absent: as long as it was leased for */; lease?: number }
  | { id: string; op: 'get' }

export interface LeaseView {
  id: string
  queue: string
  vhost: string
  leased_at: string
  expires_at: string
  message_id?: string
  delivery_count?: number
}

/** The result of one command: done, or why not. */
export type LeaseResult = { ok: true; view?: LeaseView } | { ok: false; code: ProblemCode; detail: string }

export const failedResult = (code: ProblemCode, detail: string): LeaseResult => ({ ok: false, code, detail })

const LEASE_GONE =
  'The lease ran out, or the instance, the connection or the queue behind it is gone; the message is back in its queue, if that is there.'
export const goneResult = (): LeaseResult => failedResult('lease_gone', LEASE_GONE)
export const settleOutcomeUnknown = (): LeaseResult =>
  failedResult('settle_outcome_unknown', 'The connection went away before RabbitMQ was known to have taken the settle.')
export const conflictResult = (): LeaseResult => failedResult('already_settled', 'The lease was settled in another way already.')

/** What is told of an open lease. */
export function viewOf({ id, queue, vhost, leasedAt, expiresAt, delivery }: Lease): LeaseView {
  const { messageId } = delivery.properties
  const { deliveryCount: count } = delivery
  return {
    id,
    queue,
    vhost,
    leased_at: new Date(leasedAt).toISOString(),
    expires_at: new Date(expiresAt).toISOString(),
    ...(messageId !== undefined && { message_id: messageId }),
    ...(count !== undefined && { delivery_count: count }),
  }
}
