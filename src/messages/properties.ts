// The properties of a message: their names in AMQP's client library, in JSON and in HTTP, and the one validator of their
// values. They are checked before a channel is used: RabbitMQ closes the channel, and sometimes the connection, over
// an invalid value.

import type { FieldTable } from '../amqp/wire/field-table.js'
import type { Properties } from '../amqp/wire/message.js'
import { isOwnHeader } from '../amqp/wire/own-headers.js'
import { isReserved } from '../amqp/wire/reserved.js'
import type { FieldError } from '../problems.js'
import { escapePointer } from './headers.js'
import { isContentCoding } from './media-type.js'
import { xDeathError } from './x-death.js'

export type PropertyName = Exclude<keyof Properties, 'headers' | 'exact'>
interface PropertyInfo {
  /** Its name in the JSON form. */
  json: string
  /** Its name in the raw form. */
  http: string
  kind: 'text' | 'integer'
  check: (value: string | number | bigint) => string | undefined
}

const shortString = (value: string | number | bigint): string | undefined => {
  if (Buffer.byteLength(String(value)) > 255) return 'is longer than 255 bytes'
  return String(value).isWellFormed() ? undefined : 'has half a surrogate pair, which is not valid UTF-8'
}
const between = (min: number, max: number | bigint) => (value: string | number | bigint) =>
  (typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value))) && value >= min && value <= max
    ? undefined
    : `must be a whole number from ${min} to ${max}`

const expiration = (value: string | number | bigint) =>
  /^\d{1,10}$/.test(String(value)) && Number(value) <= 0xffffffff
    ? undefined
    : 'must be whole milliseconds from 0 to 4294967295, as a string'

const replyTo = (value: string | number | bigint) =>
  value === 'amq.rabbitmq.reply-to' || isReserved(String(value))
    ? 'is reserved: it would name a consumer of the gateway itself'
    : shortString(value)

const checkText = (json: string, check = shortString): PropertyInfo => ({
  json,
  http: `amqp-${json.replaceAll('_', '-')}`,
  kind: 'text',
  check,
})
const checkInteger = (json: string, min: number, max: number | bigint): PropertyInfo => ({
  json,
  http: `amqp-${json.replaceAll('_', '-')}`,
  kind: 'integer',
  check: between(min, max),
})

/** In the order in which they are shown. */
export const properties: Readonly<Record<PropertyName, PropertyInfo>> = {
  contentType: { ...checkText('content_type'), http: 'content-type' },
  contentEncoding: { ...checkText('content_encoding'), http: 'content-encoding' },
  deliveryMode: checkInteger('delivery_mode', 1, 2),
  priority: checkInteger('priority', 0, 255),
  correlationId: checkText('correlation_id'),
  replyTo: checkText('reply_to', replyTo),
  expiration: checkText('expiration', expiration),
  messageId: checkText('message_id'),
  timestamp: checkInteger('timestamp', 0, 2n ** 64n - 1n),
  type: checkText('type'),
  userId: checkText('user_id'),
  appId: checkText('app_id'),
}

/** The header that carries a property in the raw form. HTTP's `content-encoding` is for HTTP's own content codings only. */
export const httpNameOf = (name: PropertyName, value: string | number | bigint): string =>
  name === 'contentEncoding' && !isContentCoding(String(value)) ? AMQP_CONTENT_ENCODING : properties[name].http

/** For a `content_encoding` that is no content coding of HTTP, such as a charset. */
export const AMQP_CONTENT_ENCODING = 'amqp-content-encoding'

export const propertyNames = Object.keys(properties) as PropertyName[]

/**
 * Checks the rules of RabbitMQ that go beyond a single value.
 * @param username the user of the AMQP connection, the only `user_id` that RabbitMQ accepts; undefined: the author may set none
 */
export function checkAcrossProperties(
  values: Properties,
  username: string | undefined,
  pointer: (name: PropertyName | 'headers') => string,
): FieldError[] {
  const errors: FieldError[] = []
  if (values.userId !== undefined && values.userId !== username) {
    errors.push({
      pointer: pointer('userId'),
      detail:
        username === undefined ? 'may not be set with these credentials' : "must be the user of the gateway's own connection",
    })
  }
  for (const name in values.headers) {
    if (isOwnHeader(name))
      errors.push({ pointer: `${pointer('headers')}/${escapePointer(name)}`, detail: 'may be set only by the gateway' })
  }
  const death = values.headers?.['x-death']
  const deathError = death === undefined ? undefined : xDeathError(death)
  if (deathError) errors.push({ pointer: `${pointer('headers')}/x-death`, detail: deathError })
  for (const name of ['CC', 'BCC']) {
    const keys = values.headers?.[name]
    if (keys === undefined) continue
    if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string' && Buffer.byteLength(key) <= 255)) {
      errors.push({ pointer: `${pointer('headers')}/${name}`, detail: 'must be an array of routing keys' })
    }
  }
  return errors
}

/** Why a text cannot be the name of a queue, an exchange or a vhost; undefined if it can. */
export function nameError(name: string): string | undefined {
  if (name.length === 0) return 'is empty'
  if (Buffer.byteLength(name) > 255) return 'is longer than 255 bytes'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for control characters
  if (/[\u0000-\u001f\u007f]/.test(name)) return 'has a control character in it'
  return name.isWellFormed() ? undefined : 'has half a surrogate pair, which is not valid UTF-8'
}

/** Why a text cannot be a routing key; undefined if it can. It may be empty. */
export function routingKeyError(key: string): string | undefined {
  return key === '' ? undefined : nameError(key)
}

/** The headers, or undefined if there are none. */
export function checkHeaders(values: Properties): FieldTable | undefined {
  for (const _ in values.headers) return values.headers
  return undefined
}
