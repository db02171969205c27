// The properties of a message as the bytes that stand on the wire: what was delivered can be published again bit for bit. They
// are decoded for people and for the gateway's own decisions, and never encoded again for RabbitMQ
// (docs/decisions/0015-a-copy-is-the-message.md).

import { isUtf8 } from 'node:buffer'
import { decodeFields, type FieldTable } from './field-table.js'
import type { EncodedProperties, Properties, TextProperty } from './message.js'
import { takeOwnHeaders } from './own-headers.js'

type Kind = 'text' | 'table' | 'octet' | 'time'
type PropertyField = Exclude<keyof Properties, 'exact'> | 'clusterId'

/** In the order of the wire. */
const FIELDS: readonly (readonly [name: PropertyField, flag: number, kind: Kind])[] = [
  ['contentType', 0x8000, 'text'],
  ['contentEncoding', 0x4000, 'text'],
  ['headers', 0x2000, 'table'],
  ['deliveryMode', 0x1000, 'octet'],
  ['priority', 0x0800, 'octet'],
  ['correlationId', 0x0400, 'text'],
  ['replyTo', 0x0200, 'text'],
  ['expiration', 0x0100, 'text'],
  ['messageId', 0x0080, 'text'],
  ['timestamp', 0x0040, 'time'],
  ['type', 0x0020, 'text'],
  ['userId', 0x0010, 'text'],
  ['appId', 0x0008, 'text'],
  ['clusterId', 0x0004, 'text'],
]
const FLAG_BYTES = 2
const FRAME_HEADER_BYTES = 7
const BASIC_CLASS = 60

/** Each property that is set, as its own bytes: a text has its length before it, the headers are an encoded table. */
export type PropertyParts = { [Name in PropertyField]?: Buffer }

/** The properties of a delivered message, decoded, with their bytes. A copy by spreading has the values and not the bytes. */
export class DecodedProperties implements Properties {
  contentType: string | undefined = undefined
  contentEncoding: string | undefined = undefined
  headers: FieldTable | undefined = undefined
  deliveryMode: number | undefined = undefined
  priority: number | undefined = undefined
  correlationId: string | undefined = undefined
  replyTo: string | undefined = undefined
  expiration: string | undefined = undefined
  messageId: string | undefined = undefined
  timestamp: number | bigint | undefined = undefined
  type: string | undefined = undefined
  userId: string | undefined = undefined
  appId: string | undefined = undefined
  exact: Properties['exact'] = undefined
  readonly #encoded: EncodedProperties
  readonly #own: FieldTable | undefined

  constructor(encoded: EncodedProperties) {
    this.#encoded = encoded
    const flags = encoded.readUInt16BE(0)
    let at = FLAG_BYTES
    for (const [name, flag, kind] of FIELDS) {
      if ((flags & flag) === 0) continue
      const end = partEnd(encoded, at, kind)
      if (name === 'clusterId') continue // of AMQP 0-8; carried, not shown
      if (name === 'headers') this.headers = decodeFields(encoded.subarray(at + 4, end))
      else if (name === 'timestamp') this.timestamp = readTime(encoded, at)
      else if (name === 'deliveryMode' || name === 'priority') this[name] = encoded[at]
      else this.#setText(name, encoded, at + 1, end)
      at = end
    }
    this.#own = takeOwnHeaders(this.headers)
  }

  /** The bytes of properties that came from the wire; undefined for others. */
  static encodedOf(properties: Properties): EncodedProperties | undefined {
    return #encoded in properties ? properties.#encoded : undefined
  }

  /** The gateway's own headers of a message that came from the wire. They are not among its headers. */
  static ownHeadersOf(properties: Properties): FieldTable | undefined {
    return #own in properties ? properties.#own : undefined
  }

  #setText(name: TextProperty, encoded: Buffer, from: number, end: number): void {
    const text = encoded.toString('utf8', from, end)
    this[name] = text
    if (!text.includes('\ufffd')) return
    const bytes = encoded.subarray(from, end)
    if (!isUtf8(bytes)) this.exact = { ...this.exact, [name]: Buffer.from(bytes) }
  }
}

export const { encodedOf, ownHeadersOf } = DecodedProperties

function partEnd(encoded: Buffer, at: number, kind: Kind): number {
  if (kind === 'text') return at + 1 + encoded.readUInt8(at)
  if (kind === 'table') return at + 4 + encoded.readUInt32BE(at)
  return at + (kind === 'octet' ? 1 : 8)
}

function readTime(encoded: Buffer, at: number): number | bigint {
  const seconds = encoded.readBigUInt64BE(at)
  return seconds <= Number.MAX_SAFE_INTEGER ? Number(seconds) : seconds
}

/** Decodes the properties of a content header. They keep a copy of the bytes, and so no buffer of the socket alive. */
export const decodeProperties = (encoded: Buffer): DecodedProperties => new DecodedProperties(Buffer.from(encoded))

/** The properties that are set, each as its bytes. */
export function splitProperties(encoded: EncodedProperties): PropertyParts {
  const flags = encoded.readUInt16BE(0)
  const parts: PropertyParts = {}
  let at = FLAG_BYTES
  for (const [name, flag, kind] of FIELDS) {
    if ((flags & flag) === 0) continue
    const end = partEnd(encoded, at, kind)
    parts[name] = encoded.subarray(at, end)
    at = end
  }
  return parts
}

/** The opposite of `splitProperties()`. */
export function joinProperties(parts: PropertyParts): EncodedProperties {
  const flags = Buffer.alloc(FLAG_BYTES)
  const set: Buffer[] = [flags]
  let bits = 0
  for (const [name, flag] of FIELDS) {
    const part = parts[name]
    if (!part) continue
    bits |= flag
    set.push(part)
  }
  flags.writeUInt16BE(bits)
  return Buffer.concat(set)
}

/** A text property as it stands on the wire. @throws RangeError if it is longer than 255 bytes */
export function textPart(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text as string)
  return Buffer.concat([Buffer.of(checkedLength(bytes)), bytes])
}

function checkedLength({ length }: Buffer): number {
  if (length > 255) throw new RangeError('A property is longer than 255 bytes.')
  return length
}

/** A timestamp as it stands on the wire. */
export function timePart(seconds: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(seconds)
  return bytes
}

/** The frame with the content header of a message: type, channel, size, class, weight, size of the body, properties, end. */
export function contentHeaderFrame(channel: number, bodySize: number, encoded: EncodedProperties): Buffer {
  const size = 12 + encoded.length
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + size + 1)
  frame.writeUInt8(2, 0)
  frame.writeUInt16BE(channel, 1)
  frame.writeUInt32BE(size, 3)
  frame.writeUInt16BE(BASIC_CLASS, FRAME_HEADER_BYTES)
  frame.writeBigUInt64BE(BigInt(bodySize), FRAME_HEADER_BYTES + 4)
  encoded.copy(frame, FRAME_HEADER_BYTES + 12)
  frame.writeUInt8(0xce, FRAME_HEADER_BYTES + size)
  return frame
}

/** The properties in the frame of a content header. */
export const propertiesInFrame = (frame: Buffer): EncodedProperties => frame.subarray(FRAME_HEADER_BYTES + 12, frame.length - 1)
