// Requests over which RabbitMQ ends the whole connection with an internal error, instead of refusing them: found by fuzzing 3.10,
// 4.0 and 4.3. Such a request goes over a separate connection.

import { type FieldTable, type FieldValue, TypedValue } from './field-table.js'

/** An error text has at most 255 bytes. The longest one that contains names has some 210 bytes without them. */
const MAX_SAFE_NAME_BYTES = 40

/**
 * Whether RabbitMQ 4 fails to write an error about these names: it cuts the text at 255 bytes, and crashes over the cut if the
 * text is not ASCII.
 */
export function breaksErrorText(...names: string[]): boolean {
  const all = names.join('')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: RabbitMQ can cut ASCII
  return /[^\x00-\x7f]/.test(all) && Buffer.byteLength(all) > MAX_SAFE_NAME_BYTES
}

/** Every name and string in arguments. */
export function textsIn(value: FieldValue): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null || value instanceof TypedValue || Buffer.isBuffer(value)) return []
  return Object.entries(value).flatMap(([name, inner]) => [name, ...textsIn(inner)])
}

/**
 * Whether a message with these headers may end the connection: RabbitMQ cannot convert a decimal for a stream. Headers that the
 * gateway cannot read may have one.
 */
export function breaksStreams(headers: FieldTable | undefined): boolean {
  if (headers instanceof TypedValue) return true
  for (const name in headers) if (hasDecimal(headers[name]!)) return true
  return false
}

function hasDecimal(value: FieldValue): boolean {
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return false
  if (value instanceof TypedValue) return value['!'] === 'decimal' || value['!'] === 'undecodable'
  return Object.values(value).some(hasDecimal)
}

type ArgumentType = 'string' | 'number' | 'boolean' | 'age'

// https://www.rabbitmq.com/docs/queues#optional-arguments and the pages of the queue types
/** The arguments of queues and exchanges that RabbitMQ itself knows, and the types of their values. */
const DECLARE_ARGUMENTS: Readonly<Record<string, ArgumentType>> = {
  'x-queue-type': 'string',
  'x-message-ttl': 'number',
  'x-expires': 'number',
  'x-max-length': 'number',
  'x-max-length-bytes': 'number',
  'x-max-priority': 'number',
  'x-delivery-limit': 'number',
  'x-overflow': 'string',
  'x-dead-letter-exchange': 'string',
  'x-dead-letter-routing-key': 'string',
  'x-dead-letter-strategy': 'string',
  'x-single-active-consumer': 'boolean',
  'x-max-age': 'age',
  'alternate-exchange': 'string',
}

/** The names of arguments of queues and exchanges that RabbitMQ itself knows. */
export const declareArguments: readonly string[] = [
  ...Object.keys(DECLARE_ARGUMENTS),
  ...'x-queue-mode x-queue-version x-queue-leader-locator x-queue-master-locator x-max-in-memory-length'.split(' '),
  ...'x-max-in-memory-bytes x-quorum-initial-group-size x-quorum-target-group-size x-initial-cluster-size'.split(' '),
  ...'x-stream-max-segment-size-bytes x-stream-filter-size-bytes x-delayed-type'.split(' '),
]

/** The form of x-max-age. Another text ends the connection. */
const MAX_AGE_ARGUMENT = /^\d{1,9}[YMDhms]$/

const isIntegerField = (value: FieldValue): boolean =>
  Number.isSafeInteger(value) || (value instanceof TypedValue && value['!'] === 'int32')

/**
 * Whether a declaration with these arguments is safe. Some versions crash over others: a known name with a value of another
 * type, an argument of a plugin, a misspelt one.
 */
export function areSafeDeclareArguments(args: FieldTable): boolean {
  return Object.entries(args).every(([name, value]) => {
    const kind = DECLARE_ARGUMENTS[name]
    if (kind === 'number') return isIntegerField(value)
    if (kind === 'age') return typeof value === 'string' && MAX_AGE_ARGUMENT.test(value)
    return kind !== undefined && typeof value === kind
  })
}

/** Whether a binding with these arguments is safe: a headers exchange compares plain values. */
export function areSafeBindArguments(args: FieldTable): boolean {
  return Object.entries(args).every(
    ([name, value]) => typeof value === 'string' || (name !== 'x-match' && (typeof value === 'boolean' || isIntegerField(value))),
  )
}
