// The only door to amqplib. It puts our own codec of properties and field tables in the place of amqplib's before amqplib binds
// its own at load (docs/decisions/0002-lossless-field-tables.md and 0014-a-copy-is-the-message.md): amqplib's version is pinned
// for this, and a unit test fails when ours is not in force.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import {
  contentHeaderFrame,
  decodeProperties,
  joinProperties,
  propertiesInFrame,
  splitProperties,
  textPart,
  timePart,
} from './encoded-properties.js'
import { decodeFields, type FieldTable } from './field-table.js'
import type { EncodedProperties, OutgoingMessage, Properties, TextProperty } from './message.js'

export type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib'

interface Definitions {
  BasicProperties: number
  decode: (id: number, bytes: Buffer) => unknown
  encodeProperties: (id: number, channel: number, bodySize: number, fields: Properties) => Buffer
}

const require = createRequire(import.meta.url)
const lib = join(dirname(require.resolve('amqplib')), 'lib')
const codec = require(join(lib, 'codec.js'))
codec.decodeFields = decodeFields
const definitions: Definitions = require(join(lib, 'defs.js'))
const { BasicProperties, decode, encodeProperties: encodeFrame } = definitions

/** In the place of headers: properties that are encoded already. amqplib makes it the prototype of the headers. */
class Encoded {
  readonly properties: EncodedProperties
  constructor(properties: EncodedProperties) {
    this.properties = properties
  }
}

definitions.decode = (id, bytes) => (id === BasicProperties ? decodeProperties(bytes) : decode(id, bytes))
definitions.encodeProperties = (id, channel, bodySize, fields) => {
  const headers: unknown = fields.headers
  if (headers instanceof Encoded) return contentHeaderFrame(channel, bodySize, headers.properties)
  return encodeFrame(id, channel, bodySize, fields)
}

export const { connect } = require('amqplib') as typeof import('amqplib')

/** A message's properties as the options of a publish: as they were on the wire, if it has them so, else to be encoded. */
export function publishOptions({ properties, encoded }: Pick<OutgoingMessage, 'properties' | 'encoded'>): object {
  if (encoded) return { headers: new Encoded(encoded), mandatory: true }
  if (needsExactEncoding(properties)) return { headers: new Encoded(encodeProperties(properties)), mandatory: true }
  return { ...properties, mandatory: true }
}

/** Type, channel, size, class, weight, size of the body, and the end of a frame with a content header. */
const CONTENT_HEADER_OVERHEAD = 20

/** The most bytes that properties may have on this connection: RabbitMQ closes it over a frame that is too large. */
export function maxPropertiesSize({ connection }: { connection: unknown }): number {
  return (connection as { frameMax: number }).frameMax - CONTENT_HEADER_OVERHEAD
}

const needsExactEncoding = ({ exact, timestamp }: Properties): boolean => exact !== undefined || typeof timestamp === 'bigint'

/**
 * Encodes properties, also those that amqplib cannot: texts that are not UTF-8, and timestamps beyond 2^53.
 * @throws TypeError, RangeError if they cannot be encoded
 */
export function encodeProperties({ exact, timestamp, ...rest }: Properties): EncodedProperties {
  const plain = propertiesInFrame(encodeFrame(BasicProperties, 0, 0, rest))
  if (exact === undefined && timestamp === undefined) return plain
  const parts = splitProperties(plain)
  if (timestamp !== undefined) parts.timestamp = timePart(BigInt(timestamp))
  for (const [name, bytes] of Object.entries(exact ?? {})) parts[name as TextProperty] = textPart(bytes)
  return joinProperties(parts)
}

/** Encodes the fields of a table, without its length. @throws TypeError, RangeError if it is larger than 64 KiB */
export function encodeFields(table: FieldTable): Buffer {
  const scratch = Buffer.alloc(MAX_TABLE_BYTES)
  return Buffer.from(scratch.subarray(4, codec.encodeTable(scratch, table, 0)))
}
const MAX_TABLE_BYTES = 64 * 1024
