// What makes RabbitMQ end a whole connection with an internal error, instead of refusing it politely: found by fuzzing 3.10, 4.0
// and 4.3. Whatever is of such a kind gets a connection of its own to lose.

import { type FieldTable, type FieldValue, TypedValue } from './field-table.js'

/** The broker's error texts have 255 bytes; the longest of those that hold names adds some 210 to them. */
const MAX_SAFE_NAME_BYTES = 40

/**
 * Whether an error about these names is one that RabbitMQ 4 fails to write: it cuts the text at 255 bytes, and breaks down
 * over the cut where something in it is not ASCII.
 */
export function breaksErrorText(...names: string[]): boolean {
  const all = names.join('')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is what the broker can cut
  return /[^\x00-\x7f]/.test(all) && Buffer.byteLength(all) > MAX_SAFE_NAME_BYTES
}

/** Every name and text in arguments. */
export function textsIn(value: FieldValue): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null || value instanceof TypedValue || Buffer.isBuffer(value)) return []
  return Object.entries(value).flatMap(([name, inner]) => [name, ...textsIn(inner)])
}

/** Whether a message with these headers may end the connection: no RabbitMQ converts a decimal for a stream. */
export function breaksStreams(headers: FieldTable | undefined): boolean {
  for (const name in headers) if (hasDecimal(headers[name]!)) return true
  return false
}

function hasDecimal(value: FieldValue): boolean {
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return false
  if (value instanceof TypedValue) return value['!'] === 'decimal'
  return Object.values(value).some(hasDecimal)
}

type ArgumentType = 'string' | 'number' | 'boolean' | 'age'

// https://www.rabbitmq.com/docs/queues#optional-arguments and the pages of the queue types
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

/** Of x-max-age; another text is one more that ends connections. */
const MAX_AGE_ARGUMENT = /^\d{1,9}[YMDhms]$/

const isIntegerField = (value: FieldValue): boolean =>
  Number.isSafeInteger(value) || (value instanceof TypedValue && value['!'] === 'int32')

/**
 * Whether a declaration with these arguments is safe. Over others (a known name with a value of another type, a plugin's, a
 * misspelt one) some versions break down.
 */
export function areSafeDeclareArguments(args: FieldTable): boolean {
  return Object.entries(args).every(([name, value]) => {
    const kind = DECLARE_ARGUMENTS[name]
    if (kind === 'number') return isIntegerField(value)
    if (kind === 'age') return typeof value === 'string' && MAX_AGE_ARGUMENT.test(value)
    return kind !== undefined && typeof value === kind
  })
}

/** Whether a binding with these arguments is: what a headers exchange compares are plain values. */
export function areSafeBindArguments(args: FieldTable): boolean {
  return Object.entries(args).every(
    ([name, value]) => typeof value === 'string' || (name !== 'x-match' && (typeof value === 'boolean' || isIntegerField(value))),
  )
}
