// A message as a CloudEvent in structured mode. A message that is already an event keeps its attributes.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

import { isUtf8 } from 'node:buffer'
import type { ReceivedMessage } from '../amqp/wire/message.js'
import { withoutMark } from '../lib/byte-order-mark.js'
import { attributeText, REQUIRED, toHttpName } from './cloudevents.js'
import { isJson, isJsonType } from './json.js'
import { isEncoded } from './media-type.js'
import { checkHeaders } from './properties.js'

export const STRUCTURED = 'application/cloudevents+json'

export interface Origin {
  vhost: string
  queue: string
  /** For messages that are not events. */
  id: string
}

/** The event as JSON text; a JSON payload stands in it byte for byte. */
export function eventOf(message: ReceivedMessage, origin: Origin): Buffer {
  const { contentType } = message.properties
  // It is already in this form.
  if (contentType && /^application\/cloudevents\+json\s*(?:;|$)/i.test(contentType)) return message.body
  const attributes = ownAttributes(message) ?? newAttributes(message, origin)
  if (contentType !== undefined) attributes['datacontenttype'] = contentType
  return Buffer.from(`${JSON.stringify(attributes).slice(0, -1)}${dataOf(message)}}`)
}

/** The attributes of a message that is an event in binary mode; undefined for any other. */
function ownAttributes({ properties }: ReceivedMessage): Record<string, unknown> | undefined {
  const attributes: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(checkHeaders(properties) ?? {})) {
    const attribute = toHttpName(name)?.slice('ce-'.length)
    const text = attribute === undefined ? undefined : attributeText(value)
    if (attribute === undefined || text === undefined || !/^[a-z0-9]+$/.test(attribute) || attribute === 'data') continue
    attributes[attribute] = typeof value === 'boolean' || isIntegerAttribute(value) ? value : text
  }
  return REQUIRED.every((name) => typeof attributes[name] === 'string' && attributes[name] !== '') ? attributes : undefined
}

/** The format's integers have 32 bits. A larger one becomes text. */
const isIntegerAttribute = (value: unknown): boolean =>
  typeof value === 'number' && Number.isInteger(value) && (value | 0) === value

function newAttributes(
  { properties: { type, timestamp } }: ReceivedMessage,
  { id, vhost, queue }: Origin,
): Record<string, unknown> {
  const time = timestamp === undefined ? undefined : new Date(Number(timestamp) * 1000)
  return {
    specversion: '1.0',
    id,
    source: `/vhosts/${encodeURIComponent(vhost)}/queues/${encodeURIComponent(queue)}`,
    type: type || 'rabbitmq.message',
    ...(time && !Number.isNaN(time.getTime()) && { time: time.toISOString() }),
  }
}

function dataOf({ body, properties: { contentType, contentEncoding } }: ReceivedMessage): string {
  if (body.length === 0) return ''
  if (!isEncoded(contentEncoding) && isUtf8(body)) {
    const text = body.toString('utf8')
    // Without a type an event's data is JSON: other text stands there as a JSON string.
    if (contentType === undefined || !isJsonType(contentType)) return `,"data":${JSON.stringify(text)}`
    const json = withoutMark(text)
    if (isJson(json)) return `,"data":${json}`
  }
  return `,"data_base64":"${body.toString('base64')}"`
}
