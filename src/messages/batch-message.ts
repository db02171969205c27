// One message of a batch in its JSON form: a line of NDJSON, an item of a JSON batch, an event of a CloudEvents batch.

import { isUtf8 } from 'node:buffer'
import { randomUUID } from 'node:crypto'
import type { Properties, PublishMessage } from '../amqp/wire/message.js'
import { formatDuration, parseDuration } from '../lib/units.js'
import { type FieldError, Problem } from '../problems.js'
import { REQUIRED } from './cloudevents.js'
import { parseExact } from './exact-json.js'
import { tableFromJson, taggedBytes, wholeNumber } from './headers.js'
import { objectMembers, type Slice } from './json-slices.js'
import { checkAcrossProperties, properties as known, type PropertyName, propertyNames, routingKeyError } from './properties.js'

export interface BatchTarget {
  /** Only messages to an exchange may have their own routing key. */
  to: 'queue' | 'exchange'
  exchange: string
  /** For messages without their own. */
  routingKey: string
  /** The only `user_id` that a message may have, the user of the AMQP connection; undefined: none is allowed. */
  username: string | undefined
  maxSize: number
  /** The bounds of a delay, in milliseconds. */
  delays: { shortest: number; longest: number }
}

export interface BatchMessage {
  /** The client's own name for the message in the results. */
  id?: string | undefined
  message: PublishMessage
  /** Milliseconds until it is delivered. */
  delay?: number | undefined
}

const MESSAGE_MEMBERS = ['payload', 'payload_encoding', 'properties', 'routing_key', 'delay', 'id']
const PAYLOAD_BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const byJsonName = new Map(propertyNames.map((name) => [known[name].json, name]))

/** Why an item of a batch is not a message. */
export class BatchMessageProblem extends Problem {
  /** The client's own name for it, if that could be read. */
  readonly id: string | undefined

  constructor(code: 'invalid_message' | 'message_too_large', detail: string, id?: string, errors?: FieldError[]) {
    super(code, detail, errors && { errors })
    this.id = id
  }
}

/**
 * Reads a message from valid JSON.
 * @throws BatchMessageProblem invalid_message, with every mistake; message_too_large
 */
export function readBatchMessage(text: string, at: number, target: BatchTarget): BatchMessage {
  const errors: FieldError[] = []
  if (text[at] !== '{') throw invalidMember([{ pointer: '', detail: 'is not a JSON object' }])
  const members = objectMembers(text, at)
  const cut = ({ start, end }: Slice) => text.slice(start, end)
  const value = (name: string): unknown => {
    const slice = members.get(name)
    return slice && JSON.parse(cut(slice))
  }
  for (const name of members.keys()) {
    if (!MESSAGE_MEMBERS.includes(name)) errors.push({ pointer: `/${name.slice(0, 64)}`, detail: 'is not known here' })
  }
  const given = value('id')
  const id = typeof given === 'string' && given.length <= 255 ? given : undefined
  if (given !== id) errors.push({ pointer: '/id', detail: 'must be a string of up to 255 characters' })

  let routingKey = target.routingKey
  const ownKey = value('routing_key')
  if (ownKey !== undefined) {
    const detail =
      typeof ownKey !== 'string' ? 'must be a string' : target.to === 'queue' ? 'is for exchanges only' : routingKeyError(ownKey)
    if (detail) errors.push({ pointer: '/routing_key', detail })
    else routingKey = ownKey as string
  }

  const propertiesAt = members.get('properties')
  const values = propertiesAt ? readJsonProperties(cut(propertiesAt), target.username, errors) : { deliveryMode: 2 }
  const delay = readDelay(value('delay'), target.delays, errors)
  if (delay !== undefined && values.expiration !== undefined)
    errors.push({ pointer: '/properties/expiration', detail: 'is not for a message with a delay' })
  const body = readPayload(members.get('payload'), cut, value('payload_encoding'), values, errors)
  if (errors.length > 0) throw invalidMember(errors, id)
  checkSize('payload', body, target, id)
  return {
    id,
    delay,
    message: {
      exchange: target.exchange,
      routingKey,
      body,
      properties: { ...values, messageId: values.messageId || randomUUID() },
    },
  }
}

function readDelay(value: unknown, { shortest, longest }: BatchTarget['delays'], errors: FieldError[]): number | undefined {
  if (value === undefined) return undefined
  const delay = typeof value === 'string' || typeof value === 'number' ? parseDuration(String(value)) : undefined
  if (delay === undefined) errors.push({ pointer: '/delay', detail: 'is not a duration like 500ms, 30s, 5m or 1h' })
  else if (delay < shortest || delay > longest)
    errors.push({ pointer: '/delay', detail: `must be between ${formatDuration(shortest)} and ${formatDuration(longest)}` })
  return delay
}

function readPayload(
  slice: Slice | undefined,
  cut: (slice: Slice) => string,
  encoding: unknown,
  values: Properties,
  errors: FieldError[],
): Buffer {
  if (!slice) {
    errors.push({ pointer: '/payload', detail: 'is missing' })
    return Buffer.alloc(0)
  }
  const raw = cut(slice)
  const isString = raw.startsWith('"')
  const chosen = encoding === undefined ? (isString ? 'string' : 'json') : encoding
  if (chosen === 'json') {
    values.contentType ??= 'application/json'
    return Buffer.from(raw)
  }
  if (chosen !== 'string' && chosen !== 'base64') {
    errors.push({ pointer: '/payload_encoding', detail: 'must be one of json, string, base64' })
    return Buffer.alloc(0)
  }
  const text = isString ? (JSON.parse(raw) as string) : undefined
  if (text === undefined) errors.push({ pointer: '/payload', detail: `must be a string, as payload_encoding is ${chosen}` })
  else if (chosen === 'base64' && !PAYLOAD_BASE64.test(text)) errors.push({ pointer: '/payload', detail: 'is not base64' })
  else if (!text.isWellFormed()) errors.push({ pointer: '/payload', detail: 'has half a surrogate pair, which is no UTF-8' })
  else return Buffer.from(text, chosen === 'base64' ? 'base64' : 'utf8')
  return Buffer.alloc(0)
}

function readJsonProperties(text: string, username: string | undefined, errors: FieldError[]): Properties {
  const json = parseExact(text, { doubles: true })
  const values: Properties = { deliveryMode: 2 }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    errors.push({ pointer: '/properties', detail: 'must be a JSON object' })
    return values
  }
  for (const [name, value] of Object.entries(json)) {
    const pointer = `/properties/${name.slice(0, 64)}`
    const property = byJsonName.get(name)
    if (name === 'headers') {
      values.headers = tableFromJson(value, pointer, errors)
    } else if (!property) {
      errors.push({ pointer, detail: 'is no property of a message' })
    } else {
      const detail = setProperty(values, property, value)
      if (detail) errors.push({ pointer, detail })
    }
  }
  const pointer = (name: string) => `/properties/${name === 'headers' ? 'headers' : known[name as 'userId'].json}`
  errors.push(...checkAcrossProperties(values, username, pointer))
  return values
}

/** Sets a property from its JSON value. @returns why it cannot be set */
function setProperty(values: Properties, name: PropertyName, json: unknown): string | undefined {
  const { kind, check } = known[name]
  const bytes = kind === 'text' ? taggedBytes(json) : undefined
  const value = kind === 'integer' ? wholeNumber(json) : (bytes?.toString('utf8') ?? json)
  if (kind === 'text' && typeof value !== 'string') return 'must be a string'
  if (value === undefined) return 'must be a whole number'
  const detail = bytes && bytes.length > 255 ? 'is longer than 255 bytes' : check(value as string | number | bigint)
  if (detail) return detail
  ;(values as Record<string, unknown>)[name] = value
  if (bytes && !isUtf8(bytes)) values.exact = { ...values.exact, [name]: bytes }
  return undefined
}

/**
 * Reads one event of a CloudEvents batch. It is published in structured mode, byte for byte.
 * @throws BatchMessageProblem invalid_message, with every mistake; message_too_large
 */
export function readBatchEvent(text: string, at: number, end: number, target: BatchTarget): BatchMessage {
  if (text[at] !== '{') throw invalidMember([{ pointer: '', detail: 'is not a JSON object' }])
  const members = objectMembers(text, at)
  const errors: FieldError[] = []
  const attributes = REQUIRED.map((name): unknown => {
    const slice = members.get(name)
    return slice && JSON.parse(text.slice(slice.start, slice.end))
  })
  for (const [n, value] of attributes.entries()) {
    if (typeof value !== 'string' || value === '')
      errors.push({ pointer: `/${REQUIRED[n]}`, detail: 'must be a string that is not empty' })
  }
  const [given] = attributes
  const id = typeof given === 'string' && given !== '' ? given.slice(0, 255) : undefined
  if (errors.length > 0) throw invalidMember(errors, id)
  const body = Buffer.from(text.slice(at, end))
  checkSize('event', body, target, id)
  const properties = { deliveryMode: 2, contentType: 'application/cloudevents+json', messageId: randomUUID() }
  return {
    id,
    message: { exchange: target.exchange, routingKey: target.routingKey, body, properties },
  }
}

function checkSize(what: string, { length }: Buffer, { maxSize }: BatchTarget, id: string | undefined): void {
  if (length <= maxSize) return
  throw new BatchMessageProblem('message_too_large', `The ${what} has ${length} bytes, and ${maxSize} is the limit.`, id)
}

function invalidMember(errors: FieldError[], id?: string): BatchMessageProblem {
  const detail = errors.map(({ pointer, detail }) => `${pointer || 'the message'} ${detail}`).join('; ')
  return new BatchMessageProblem('invalid_message', detail, id, errors)
}
