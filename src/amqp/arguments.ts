// Which arguments the broker is known to take or to refuse politely. Over others (a known name with a value of another type,
// a plugin's, a misspelt one) some versions end the whole connection with an internal error instead.

import { type FieldTable, type FieldValue, TypedValue } from './field-table.js'

type Kind = 'string' | 'number' | 'boolean' | 'age'

// https://www.rabbitmq.com/docs/queues#optional-arguments and the pages of the queue types
const DECLARE: Readonly<Record<string, Kind>> = {
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
const AGE = /^\d{1,9}[YMDhms]$/

const isInteger = (value: FieldValue): boolean =>
  Number.isSafeInteger(value) || (value instanceof TypedValue && value['!'] === 'int32')

/** Whether a declaration with these arguments is safe on a connection that others share. */
export function areKnown(args: FieldTable): boolean {
  return Object.entries(args).every(([name, value]) => {
    const kind = DECLARE[name]
    if (kind === 'number') return isInteger(value)
    if (kind === 'age') return typeof value === 'string' && AGE.test(value)
    return kind !== undefined && typeof value === kind
  })
}

/** Whether a binding with these arguments is: what a headers exchange compares are plain values. */
export function arePlain(args: FieldTable): boolean {
  return Object.entries(args).every(
    ([name, value]) => typeof value === 'string' || (name !== 'x-match' && (typeof value === 'boolean' || isInteger(value))),
  )
}
