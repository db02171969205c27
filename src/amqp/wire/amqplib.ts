// The only door to amqplib. It puts our own codec of properties and field tables in the place of amqplib's before amqplib binds
// its own at load (docs/decisions/0002-lossless-field-tables.md and 0015-a-copy-is-the-message.md), keeps what RabbitMQ says when
// it ends a handshake, and refuses frames that RabbitMQ would end the connection over. amqplib's version is pinned for this, and
// unit tests fail when a change is not in force.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Problem } from '../../problems.js'
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
import { type EncodedProperties, isDirectReply, type OutgoingMessage, type Properties, type TextProperty } from './message.js'

export type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib'

interface Definitions {
  BasicProperties: number
  ConnectionTune: number
  ConnectionClose: number
  ConnectionCloseOk: number
  decode: (id: number, bytes: Buffer) => unknown
  encodeProperties: (id: number, channel: number, bodySize: number, fields: Properties) => Buffer
  encodeMethod: (id: number, channel: number, fields: object) => Buffer
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
const { closeMessage } = require(join(lib, 'format.js'))

/** The part of amqplib's connection that is changed here. */
interface WireConnection {
  frameMax: number
  isAuthenticated?: boolean
  step(next: (error: Error | null, frame: HandshakeFrame | null) => void): void
  sendMethod(channel: number, method: number, fields: object): unknown
  sendMessage(channel: number, method: number, fields: object, id: number, properties: object, content: Buffer): unknown
}

interface HandshakeFrame {
  id: number
  fields: { replyCode: number }
}

/** RabbitMQ closed a connection before it was open. */
export interface HandshakeError extends Error {
  /** AMQP's reply code. */
  code: number
  /** Whether RabbitMQ had accepted the user by then. */
  isAuthenticated: boolean
}

const connection: WireConnection = require(join(lib, 'connection.js')).Connection.prototype
const { step, sendMethod, sendMessage } = connection

// amqplib reads the frames of a handshake with this method, and forgets the text of a close that it does not expect.
connection.step = function (next) {
  step.call(this, (error, frame) => {
    if (frame?.id === definitions.ConnectionTune) this.isAuthenticated = true
    if (frame === null || frame.id !== definitions.ConnectionClose) {
      next(error, frame)
      return
    }
    this.sendMethod(0, definitions.ConnectionCloseOk, {})
    const details = { code: frame.fields.replyCode, isAuthenticated: this.isAuthenticated === true }
    next(Object.assign(new Error(`Connection closed: ${closeMessage(frame)}`), details) satisfies HandshakeError, null)
  })
}

/** More than any frame of validated parts: a table has 60 KiB at most, and all other fields less than 4 KiB together. */
const LARGEST_FRAME_BYTES = 66 * 1024

connection.sendMethod = function (channel, method, fields) {
  if (this.frameMax < LARGEST_FRAME_BYTES && channel > 0) {
    const { length } = definitions.encodeMethod(method, channel, fields)
    if (length > this.frameMax) throw tooLarge('invalid_request', 'The arguments are', length, this.frameMax)
  }
  return sendMethod.call(this, channel, method, fields)
}

connection.sendMessage = function (channel, method, fields, id, properties, content) {
  if (this.frameMax < LARGEST_FRAME_BYTES) {
    const { length } = definitions.encodeProperties(id, channel, content.length, properties)
    if (length > this.frameMax) throw tooLarge('invalid_message', 'The headers and properties are', length, this.frameMax)
  }
  return sendMessage.call(this, channel, method, fields, id, properties, content)
}

function tooLarge(code: 'invalid_request' | 'invalid_message', what: string, bytes: number, frameMax: number): Problem {
  return new Problem(code, `${what} too large for this RabbitMQ: a frame of ${bytes} bytes, and frame_max is ${frameMax}.`)
}

export const { connect } = require('amqplib') as typeof import('amqplib')

/**
 * The options of a publish: `mandatory`, unless nobody can know whether it arrives, and the message's properties: as they were
 * on the wire, if it has them so, else to be encoded.
 */
export function publishOptions(message: Omit<OutgoingMessage, 'body'>): object {
  const { properties, encoded } = message
  const mandatory = !isDirectReply(message)
  if (encoded) return { headers: new Encoded(encoded), mandatory }
  if (needsExactEncoding(properties)) return { headers: new Encoded(encodeProperties(properties)), mandatory }
  return { ...properties, mandatory }
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
