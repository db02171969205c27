// The headers that the gateway writes on messages, and the only place that reads and writes them. They are on copies: messages
// that the gateway publishes again. Clients cannot set them, and do not see them among the headers of a message.

import { type FieldTable, type FieldValue, TypedValue } from './field-table.js'

const OWN_HEADER = /^(?:x-gateway-.*|gateway-delayed)$/is

/** Whether the header belongs to the gateway. Every spelling does, since HTTP ignores case. */
export const isOwnHeader = (name: string): boolean => OWN_HEADER.test(name)

/** On a waiting message: its envelope. */
export const DELAYED_HEADER = 'gateway-delayed'

const QUEUE = 'x-gateway-queue'
const DELIVERIES = 'x-gateway-delivery-count'
const ATTEMPTS = 'x-gateway-attempts'
const EXCHANGE = 'x-gateway-exchange'
const EXPIRES = 'x-gateway-expires'
const MESSAGE_ID = 'x-gateway-message-id'
const FAILURES = 'x-gateway-failures'

/** Why a message was given back. */
export interface Failure {
  reason: string
  /** RFC 3339. */
  time: string
  /** nack: its client said so. push: a subscription's endpoint failed. lease_expired: nobody settled it in time. */
  by: 'nack' | 'push' | 'lease_expired'
}

/** How many failures a message keeps, the last ones. */
const MAX_FAILURES = 10

/** What the gateway knows about a message of which it has made a copy. Numbers are whole, and not negative. */
export interface OwnRecord {
  /** The queue that the record belongs to. In any other, such as the queue of dead letters, it says nothing. */
  queue: string
  /** How often the message was delivered before. */
  deliveries?: number | undefined
  /** How often its delivery to a subscription's endpoint failed. */
  attempts?: number | undefined
  /** The exchange that the message was published to, if it was another than the copy's. */
  exchange?: string | undefined
  /** When the message expires, in milliseconds since 1970. */
  expiresAt?: number | undefined
  /** The id under which a message without an id is delivered to a subscription's endpoint. */
  messageId?: string | undefined
  /** Why the message was given back, the last time last. */
  failures?: readonly Failure[] | undefined
}

/** Takes the gateway's headers out of decoded headers, and returns them; undefined if there are none. */
export function takeOwnHeaders(headers: FieldTable | undefined): FieldTable | undefined {
  let own: FieldTable | undefined
  for (const name in headers) {
    if (!isOwnHeader(name)) continue
    own ??= Object.create(null) as FieldTable
    own[name] = headers[name]!
    delete headers[name]
  }
  return own
}

/** The record in the gateway's headers, if it belongs to this queue. A value that the gateway would not write is ignored. */
export function readOwnRecord(own: FieldTable, queue: string): OwnRecord | undefined {
  if (own[QUEUE] !== queue) return undefined
  return {
    queue,
    deliveries: countOf(own[DELIVERIES]),
    attempts: countOf(own[ATTEMPTS]),
    exchange: textOf(own[EXCHANGE]),
    expiresAt: countOf(own[EXPIRES]),
    messageId: textOf(own[MESSAGE_ID]),
    failures: failuresOf(own[FAILURES]),
  }
}

/**
 * Why a message was given back, as a copy of it says that was dead-lettered since; undefined if it does not.
 * @param queues those in which it was dead-lettered
 */
export function readFailures(own: FieldTable, queues: readonly string[]): readonly Failure[] | undefined {
  const queue = own[QUEUE]
  return typeof queue === 'string' && queues.includes(queue) ? failuresOf(own[FAILURES]) : undefined
}

function failuresOf(value: FieldValue | undefined): readonly Failure[] | undefined {
  if (typeof value !== 'string') return undefined
  try {
    const list: unknown = JSON.parse(value)
    if (!Array.isArray(list) || list.length > MAX_FAILURES || !list.every(isFailure)) return undefined
    return list.map(({ reason, time, by }) => ({ reason, time, by }))
  } catch {
    return undefined
  }
}

function isFailure(value: unknown): value is Failure {
  if (typeof value !== 'object' || value === null) return false
  const { reason, time, by } = value as Partial<Record<keyof Failure, unknown>>
  const isKnown = by === 'nack' || by === 'push' || by === 'lease_expired'
  return isKnown && typeof reason === 'string' && typeof time === 'string' && !Number.isNaN(Date.parse(time))
}

/** The failures with one more. Older ones are dropped. */
export const withFailure = (failures: readonly Failure[] | undefined, failure: Failure): readonly Failure[] =>
  [...(failures ?? []), failure].slice(-MAX_FAILURES)

/** The record as headers. Integers have 32 or 64 bits: some clients read those of 8 and 16 bits without their sign. */
export function ownHeaders(record: OwnRecord): FieldTable {
  const { queue, deliveries, attempts, exchange, expiresAt, messageId, failures } = record
  const headers: FieldTable = { [QUEUE]: queue }
  if (deliveries !== undefined) headers[DELIVERIES] = integer(deliveries)
  if (attempts) headers[ATTEMPTS] = integer(attempts)
  if (exchange !== undefined) headers[EXCHANGE] = exchange
  if (expiresAt !== undefined) headers[EXPIRES] = new TypedValue('int64', expiresAt)
  if (messageId !== undefined) headers[MESSAGE_ID] = messageId
  if (failures && failures.length > 0) headers[FAILURES] = JSON.stringify(failures)
  return headers
}

const integer = (value: number): TypedValue => new TypedValue(value <= 0x7fffffff ? 'int32' : 'int64', value)

const countOf = (value: FieldValue | undefined): number | undefined =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined

const textOf = (value: FieldValue | undefined): string | undefined => (typeof value === 'string' ? value : undefined)
