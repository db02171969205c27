// The only door to amqplib. It puts our lossless field-table decoder in the place of amqplib's before amqplib binds its own
// at load (docs/decisions/0002-lossless-field-tables.md), keeps what RabbitMQ says when it ends a handshake, and refuses frames
// that RabbitMQ would end the connection over. amqplib's version is pinned for this, and unit tests fail when a change is not in
// force.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Problem } from '../../problems.js'
import { decodeFields } from './field-table.js'

export type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib'

const require = createRequire(import.meta.url)
const lib = join(dirname(require.resolve('amqplib')), 'lib')
require(join(lib, 'codec.js')).decodeFields = decodeFields
const defs = require(join(lib, 'defs.js'))
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
    if (frame?.id === defs.ConnectionTune) this.isAuthenticated = true
    if (frame === null || frame.id !== defs.ConnectionClose) {
      next(error, frame)
      return
    }
    this.sendMethod(0, defs.ConnectionCloseOk, {})
    const details = { code: frame.fields.replyCode, isAuthenticated: this.isAuthenticated === true }
    next(Object.assign(new Error(`Connection closed: ${closeMessage(frame)}`), details) satisfies HandshakeError, null)
  })
}

/** More than any frame of validated parts: a table has 60 KiB at most, and all other fields less than 4 KiB together. */
const LARGEST_FRAME_BYTES = 66 * 1024

connection.sendMethod = function (channel, method, fields) {
  if (this.frameMax < LARGEST_FRAME_BYTES && channel > 0) {
    const { length } = defs.encodeMethod(method, channel, fields)
    if (length > this.frameMax) throw tooLarge('invalid_request', 'The arguments are', length, this.frameMax)
  }
  return sendMethod.call(this, channel, method, fields)
}

connection.sendMessage = function (channel, method, fields, id, properties, content) {
  if (this.frameMax < LARGEST_FRAME_BYTES) {
    const { length } = defs.encodeProperties(id, channel, content.length, properties)
    if (length > this.frameMax) throw tooLarge('invalid_message', 'The headers and properties are', length, this.frameMax)
  }
  return sendMessage.call(this, channel, method, fields, id, properties, content)
}

function tooLarge(code: 'invalid_request' | 'invalid_message', what: string, bytes: number, frameMax: number): Problem {
  return new Problem(code, `${what} too large for this RabbitMQ: a frame of ${bytes} bytes, and frame_max is ${frameMax}.`)
}

export const { connect } = require('amqplib') as typeof import('amqplib')
