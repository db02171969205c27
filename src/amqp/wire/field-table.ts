// AMQP 0-9-1 field tables (headers, arguments), decoded without loss. amqplib's own decoder rounds 64-bit integers, reads
// every string as UTF-8, trusts a key named `__proto__`, and throws on a type tag it doesn't know, which ends the whole
// connection: one such message would take every lease of the connection with it. Ours never throws.

import { isUtf8 } from 'node:buffer'
import { fieldsOf } from './encoded-table.js'

/**
 * A value whose AMQP type JavaScript can't say by itself. Its shape, `{'!': type, value}`, is the one that amqplib's encoder
 * understands, so a decoded table can be published again as it is.
 */
export class TypedValue {
  readonly '!': string
  readonly value: unknown
  constructor(type: 'timestamp' | 'decimal' | 'int32' | 'int64' | 'double' | 'undecodable', value: unknown) {
    this['!'] = type
    this.value = value
  }
}

export type FieldValue = string | number | boolean | null | Buffer | TypedValue | FieldValue[] | FieldTable
export interface FieldTable {
  [name: string]: FieldValue
}

class Unreadable extends Error {}
const MAX_DECODED_DEPTH = 64

/**
 * Reads the fields of one encoded table (the bytes after its length). A field that it can't read (a depth beyond 64) becomes an
 * `undecodable` TypedValue over the same bytes. If it can't tell where such a field ends (an unknown type tag, a length that
 * lies), the whole table is one: never an exception.
 */
export function decodeFields(bytes: Buffer): FieldTable {
  try {
    return decodeTable(bytes, 0, bytes.length, 0)
  } catch {
    return decodeReadable(bytes) ?? (undecodable(bytes) as unknown as FieldTable)
  }
}

const undecodable = (bytes: Buffer): TypedValue => new TypedValue('undecodable', Buffer.from(bytes))

/** The table with those fields decoded that can be; undefined if it cannot be told where each field ends. */
function decodeReadable(bytes: Buffer): FieldTable | undefined {
  const table: FieldTable = Object.create(null)
  let end = 0
  for (const { bytes: field, value } of fieldsOf(bytes)) {
    end += field.length
    const name = nameOf(field, 1, field.length - value.length)
    try {
      table[name] = decodeField(value, { at: 0 }, 0)
    } catch {
      table[name] = undecodable(value)
    }
  }
  return end === bytes.length ? table : undefined
}

/** A name that is not UTF-8 is read as Latin-1, so that no two names look alike. */
function nameOf(bytes: Buffer, start: number, end: number): string {
  const name = bytes.toString('utf8', start, end)
  return name.includes('\ufffd') && !isUtf8(bytes.subarray(start, end)) ? bytes.toString('latin1', start, end) : name
}

function decodeTable(bytes: Buffer, start: number, end: number, depth: number): FieldTable {
  if (depth > MAX_DECODED_DEPTH || end > bytes.length) throw new Unreadable()
  const table: FieldTable = Object.create(null)
  const cursor = { at: start }
  while (cursor.at < end) {
    const length = bytes.readUInt8(cursor.at)
    const name = nameOf(bytes, cursor.at + 1, cursor.at + 1 + length)
    cursor.at += 1 + length
    table[name] = decodeField(bytes, cursor, depth)
  }
  if (cursor.at !== end) throw new Unreadable()
  return table
}

// Type tags as RabbitMQ uses them: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
function decodeField(bytes: Buffer, cursor: { at: number }, depth: number): FieldValue {
  const tag = bytes.readUInt8(cursor.at++)
  const at = cursor.at
  switch (tag) {
    case 0x53: {
      // S, long string
      const text = block(bytes, cursor)
      return isUtf8(text) ? text.toString('utf8') : Buffer.from(text)
    }
    case 0x49: // I
      cursor.at += 4
      return bytes.readInt32BE(at)
    case 0x74: // t
      cursor.at += 1
      return bytes.readUInt8(at) !== 0
    case 0x6c: // l
    case 0x4c: // L: written by py-amqp and rabbitmq-c for the same signed 64 bits
      cursor.at += 8
      return int64(bytes.readBigInt64BE(at))
    case 0x46: // F
      return decodeTable(bytes, at + 4, skipBlock(bytes, cursor), depth + 1)
    case 0x41: {
      // A, array
      const end = skipBlock(bytes, cursor)
      if (depth >= MAX_DECODED_DEPTH || end > bytes.length) throw new Unreadable()
      const values: FieldValue[] = []
      const inner = { at: at + 4 }
      while (inner.at < end) values.push(decodeField(bytes, inner, depth + 1))
      if (inner.at !== end) throw new Unreadable()
      return values
    }
    case 0x56: // V
      return null
    case 0x62: // b
      cursor.at += 1
      return bytes.readInt8(at)
    case 0x42: // B
      cursor.at += 1
      return bytes.readUInt8(at)
    case 0x73: // s
      cursor.at += 2
      return bytes.readInt16BE(at)
    case 0x75: // u
      cursor.at += 2
      return bytes.readUInt16BE(at)
    case 0x69: // i
      cursor.at += 4
      return bytes.readUInt32BE(at)
    case 0x64: // d
      cursor.at += 8
      return fraction(bytes.readDoubleBE(at))
    case 0x66: // f
      cursor.at += 4
      return fraction(bytes.readFloatBE(at))
    case 0x54: {
      // T, seconds
      cursor.at += 8
      const seconds = bytes.readBigUInt64BE(at)
      return new TypedValue('timestamp', seconds <= Number.MAX_SAFE_INTEGER ? Number(seconds) : seconds)
    }
    case 0x44: // D
      cursor.at += 5
      return new TypedValue('decimal', { places: bytes.readUInt8(at), digits: bytes.readUInt32BE(at + 1) })
    case 0x78: // x
      return Buffer.from(block(bytes, cursor))
    default:
      throw new Unreadable()
  }
}

function skipBlock(bytes: Buffer, cursor: { at: number }): number {
  cursor.at += 4 + bytes.readUInt32BE(cursor.at)
  return cursor.at
}

function block(bytes: Buffer, cursor: { at: number }): Buffer {
  const start = cursor.at + 4
  const end = skipBlock(bytes, cursor)
  if (end > bytes.length) throw new Unreadable()
  return bytes.subarray(start, end)
}

function int64(value: bigint): FieldValue {
  const small = value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
  return small ? Number(value) : new TypedValue('int64', value)
}

// amqplib encodes a double with no fraction as an integer, and fails over a large or infinite one; so these say their type.
const LARGE = 2 ** 50
const fraction = (value: number): FieldValue => {
  const plain = !Number.isInteger(value) && Math.abs(value) < LARGE
  return plain ? value : new TypedValue('double', value)
}

/** How many bytes the value takes in an encoded table, its type tag included: what amqplib will write for it. */
export function encodedSize(value: FieldValue): number {
  switch (typeof value) {
    case 'string':
      return 5 + Buffer.byteLength(value)
    case 'boolean':
      return 2
    case 'number':
      return 9 // at most
  }
  if (value === null) return 1
  if (Buffer.isBuffer(value)) return 5 + value.length
  if (value instanceof TypedValue) return 9
  let size = 5
  if (Array.isArray(value)) for (const item of value) size += encodedSize(item)
  else for (const name in value) size += 1 + Buffer.byteLength(name) + encodedSize(value[name]!)
  return size
}
