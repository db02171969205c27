// A message in its raw form: the HTTP body is the AMQP body, the properties and headers are HTTP headers.

import { isUtf8 } from 'node:buffer'
import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { FieldTable } from '../amqp/wire/field-table.js'
import type { Properties, ReceivedMessage, TextProperty } from '../amqp/wire/message.js'
import { type FieldError, Problem } from '../problems.js'
import { attributeNames, attributeText, decodePercent, encodePercent, missingAttributes, toHttpName } from './cloudevents.js'
import { parseExact } from './exact-json.js'
import { tableFromJson, tableToJson } from './headers.js'
import {
  AMQP_CONTENT_ENCODING,
  checkAcrossProperties,
  checkHeaders,
  httpNameOf,
  properties,
  propertyNames,
} from './properties.js'

export const TRACE = ['traceparent', 'tracestate', 'baggage']
const MAX_HEADERS_BYTES = 8 * 1024

/** The problem of a message whose properties HTTP headers cannot carry. */
export class UnfitForHttp extends Problem {
  /** The reason, for callers that word their own sentence. */
  readonly why: string

  constructor(why: string) {
    super('not_acceptable', `The message cannot be returned raw: ${why}. It is back in its queue. Ask for JSON instead.`)
    this.why = why
  }
}

const byHttpName = new Map(propertyNames.map((name) => [properties[name].http, name]))
byHttpName.set(AMQP_CONTENT_ENCODING, 'contentEncoding')

/**
 * The properties in a request's headers, with the client's message id or a new UUID.
 * @param username the only `user_id` that the message may have; undefined: none is allowed
 * @throws Problem invalid_message, with every mistake
 */
export function readProperties(http: IncomingHttpHeaders, username: string | undefined): Properties & { messageId: string } {
  const values: Properties & { messageId: string } = { deliveryMode: 2, messageId: '' }
  const errors: FieldError[] = []
  let headers: FieldTable | undefined
  for (const name in http) {
    const raw = http[name]
    if (raw === undefined || Array.isArray(raw)) continue
    if (name.startsWith('amqp-') || name === 'content-type' || name === 'content-encoding') {
      const property = byHttpName.get(name)
      if (property) {
        const { kind, check } = properties[property]
        const value = kind === 'integer' ? (integerFromHttp(raw) ?? raw) : fromHttp(raw)
        const detail = check(value)
        if (detail) errors.push({ pointer: `/header/${name}`, detail })
        else if (property === 'contentEncoding' && (values.contentEncoding ?? value) !== value)
          errors.push({ pointer: `/header/${name}`, detail: 'contradicts the other header for the content encoding' })
        else (values as unknown as Record<string, unknown>)[property] = value
      } else if (!isHeaderName(name)) {
        errors.push({ pointer: `/header/${name}`, detail: 'is no property of a message' })
      }
    }
    if (isHeaderName(name) || name.startsWith('ce-') || TRACE.includes(name)) headers ??= readHeaders(http, errors)
  }
  if (headers) values.headers = headers
  if (!values.messageId) values.messageId = randomUUID()
  const pointer = (name: string) => `/header/${name === 'headers' ? 'amqp-headers' : properties[name as 'userId'].http}`
  errors.push(...checkAcrossProperties(values, username, pointer))
  if (errors.length > 0) {
    throw new Problem('invalid_message', errors.map(({ pointer, detail }) => `${pointer} ${detail}`).join('; '), { errors })
  }
  return values
}

const isHeaderName = (name: string): boolean => name === 'amqp-headers' || (name.startsWith('amqp-header-') && name.length > 12)

/** All AMQP headers: the exact ones, single ones (which may repeat but not contradict them), and the trace context. */
function readHeaders(http: IncomingHttpHeaders, errors: FieldError[]): FieldTable {
  const json: Record<string, unknown> = Object.create(null)
  const exact = http['amqp-headers']
  if (typeof exact === 'string') {
    try {
      Object.assign(json, objectOf(parseExact(fromHttp(exact), { doubles: true })))
    } catch (error) {
      errors.push({ pointer: '/header/amqp-headers', detail: `is not a JSON object: ${(error as Error).message.slice(0, 120)}` })
      return {}
    }
  }
  const amqpName = attributeNames(Object.keys(json))
  for (const [name, value] of Object.entries(http)) {
    if (typeof value !== 'string') continue
    if (name.startsWith('amqp-header-')) {
      const key = name.slice('amqp-header-'.length)
      const text = fromHttp(value)
      // A raw response has each header in both forms, and only the exact form keeps the case of the name.
      const stated = Object.keys(json).filter((other) => other.toLowerCase() === key)
      if (stated.length === 0) json[key] = text
      else if (!stated.some((other) => json[other] === text))
        errors.push({ pointer: `/header/${name}`, detail: 'contradicts amqp-headers' })
    } else if (name.startsWith('ce-') && name.length > 3) {
      const text = decodePercent(fromHttp(value))
      if (text === undefined) errors.push({ pointer: `/header/${name}`, detail: 'has a broken percent-encoding' })
      else json[amqpName(name)] ??= text
    } else if (TRACE.includes(name)) {
      json[name] ??= fromHttp(value)
    }
  }
  for (const name of missingAttributes(http, (name) => json[amqpName(name)])) {
    // A broken encoding is an error already.
    if (!http[name]) errors.push({ pointer: `/header/${name}`, detail: 'is missing or empty' })
  }
  return tableFromJson(json, '/header/amqp-headers', errors)
}

function objectOf(json: unknown): object {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new Error('something else stands there')
  return json
}

/**
 * The HTTP headers of a raw message. Values that no HTTP header can have are left out, and named in `amqp-omitted`.
 * @param room how many bytes they may take
 * @throws UnfitForHttp (Problem not_acceptable) if they take more
 */
export function writeProperties(message: ReceivedMessage, room = MAX_HEADERS_BYTES): Record<string, string> {
  const http: Record<string, string> = {}
  const omitted: string[] = []
  for (const name of propertyNames) {
    const value = message.properties[name]
    if (value === undefined) continue
    // Text in HTTP is UTF-8: published again, it would be another property.
    if (message.properties.exact?.[name as TextProperty]) omitted.push(httpNameOf(name, value))
    else http[httpNameOf(name, value)] = String(value)
  }
  http['amqp-redelivered'] = String(message.redelivered)
  http['amqp-exchange'] = message.exchange
  http['amqp-routing-key'] = message.routingKey
  const headers = checkHeaders(message.properties)
  if (headers) {
    http['amqp-headers'] = asciiJson(tableToJson(headers))
    for (const name of TRACE) if (typeof headers[name] === 'string') http[name] = headers[name]
  }
  for (const [name, value] of Object.entries(http)) {
    if (isHttpValue(value)) continue
    omitted.push(name)
    delete http[name]
  }
  if (omitted.length > 0) http['amqp-omitted'] = omitted.join(', ')
  let size = 0
  for (const [name, value] of Object.entries(http)) {
    const line = toHttp(value)
    http[name] = line
    size += name.length + line.length + 4
  }
  if (size > room) throw new UnfitForHttp(`its headers take ${size} bytes, and there is room for ${Math.max(0, room)}`)
  if (headers) addSingleHeaders(http, headers, room - size)
  return http
}

/** Strings and event attributes one by one, for clients that do not parse JSON, while there is room. `amqp-headers` has all. */
function addSingleHeaders(http: Record<string, string>, headers: FieldTable, room: number): void {
  const written = new Set<string>()
  for (const [name, value] of Object.entries(headers)) {
    // HTTP ignores case: of two names that differ only in case, the first is written.
    const event = toHttpName(name)
    const given = event ? attributeText(value) : value
    if (typeof given !== 'string' || name === '' || TRACE.includes(name) || written.has(name.toLowerCase())) continue
    written.add(name.toLowerCase())
    const header = event ?? `amqp-header-${name}`
    const text = event ? encodePercent(given) : given
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(header) || !isHttpValue(text)) continue
    const line = toHttp(text)
    room -= header.length + line.length + 4
    if (room < 0) return
    http[header] = line
  }
}

/** No control characters, and no space at an end, which HTTP would cut off. */
function isHttpValue(value: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for control characters
  return !/[\u0000-\u0008\u000a-\u001f\u007f]|^[ \t]|[ \t]$/.test(value)
}

/** An integer, exact whatever its size; undefined for any other text. */
function integerFromHttp(value: string): number | bigint | undefined {
  if (!/^\d{1,20}$/.test(value)) return undefined
  const integer = Number(value)
  return Number.isSafeInteger(integer) ? integer : BigInt(value)
}

// Header values are UTF-8 on the wire, but Node reads and writes them as Latin-1.
function fromHttp(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for characters beyond ASCII
  if (!/[^\x00-\x7f]/.test(value)) return value
  const bytes = Buffer.from(value, 'latin1')
  return isUtf8(bytes) ? bytes.toString('utf8') : value
}

function toHttp(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for characters beyond ASCII
  return /[^\x00-\x7f]/.test(value) ? Buffer.from(value, 'utf8').toString('latin1') : value
}

function asciiJson(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
