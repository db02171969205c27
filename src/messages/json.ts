// A message in its JSON form, as text. A JSON payload stands in it byte for byte, so that its numbers stay exact.

import { isUtf8 } from 'node:buffer'
import type { ReceivedMessage, TextProperty } from '../amqp/wire/message.js'
import type { Failure } from '../amqp/wire/own-headers.js'
import { withoutMark } from '../lib/byte-order-mark.js'
import { timestamp } from '../lib/clock.js'
import { bytesToJson, tableToJson } from './headers.js'
import { isEncoded } from './media-type.js'
import { checkHeaders, properties, propertyNames } from './properties.js'
import { deathsOf } from './x-death.js'

export type Encoding = 'auto' | 'string' | 'base64'

export interface Leased {
  id: string
  expiresAt: number
}

/** The message as JSON text, on one line. */
export function messageToJson(
  message: ReceivedMessage & { deliveryCount?: number | undefined; failures?: readonly Failure[] | undefined },
  encoding: Encoding,
  lease?: Leased,
): string {
  const { exchange, routingKey, redelivered, deliveryCount } = message
  let json = `{${payload(message, encoding)},"exchange":${JSON.stringify(exchange)},"routing_key":${JSON.stringify(routingKey)},"redelivered":${redelivered}`
  if (deliveryCount !== undefined) json += `,"delivery_count":${deliveryCount}`
  const deaths = deathsOf(message.properties.headers)
  if (deaths) json += `,"deaths":${JSON.stringify(deaths)}`
  if (message.failures) json += `,"failures":${JSON.stringify(message.failures)}`
  json += `,"properties":${propertiesToJson(message)}`
  if (lease) json += `,"lease":{"id":"${lease.id}","expires_at":"${timestamp(lease.expiresAt)}"}`
  return `${json}}`
}

function payload({ body, properties: { contentType, contentEncoding } }: ReceivedMessage, encoding: Encoding): string {
  const bytes = `"payload_bytes":${body.length}`
  if (encoding !== 'base64' && isUtf8(body)) {
    const text = body.toString('utf8')
    const json = withoutMark(text)
    if (encoding === 'auto' && !isEncoded(contentEncoding) && isJsonType(contentType) && isJson(json)) {
      // A line end outside a string is white space, and valid JSON has none inside a string.
      return `"payload":${json.replace(/[\r\n]/g, ' ')},"payload_encoding":"json",${bytes}`
    }
    return `"payload":${JSON.stringify(text)},"payload_encoding":"string",${bytes}`
  }
  return `"payload":"${body.toString('base64')}","payload_encoding":"base64",${bytes}`
}

function propertiesToJson({ properties: values }: ReceivedMessage): string {
  let json = ''
  for (const name of propertyNames) {
    const value = values[name]
    if (value !== undefined)
      json += `${json === '' ? '' : ','}"${properties[name].json}":${propertyToJson(value, values.exact?.[name as TextProperty])}`
  }
  const headers = checkHeaders(values)
  if (headers) json += `${json === '' ? '' : ','}"headers":${tableToJson(headers)}`
  return `{${json}}`
}

/** A text that is not UTF-8 is shown as its bytes, and an integer of any size as it is. */
function propertyToJson(value: string | number | bigint, exact: Buffer | undefined): string {
  if (exact) return bytesToJson(exact)
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}

/** Whether a content type is JSON, or based on JSON (`+json`). */
export const isJsonType = (contentType: string | undefined): boolean =>
  contentType !== undefined && /^application\/(?:[^;]+\+)?json\s*(?:;|$)/i.test(contentType)

/** Whether a text is valid JSON. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
