// Messages as bytes: every property, and every field type of AMQP 0-9-1 as RabbitMQ knows them, with values that a codec changes
// easily.

import { long, longText, shortText } from './amqp-frames.js'

const bytes = (length: number, write: (buffer: Buffer) => void): Buffer => {
  const buffer = Buffer.alloc(length)
  write(buffer)
  return buffer
}
const repeat = (length: number, byte: number): Buffer => Buffer.alloc(length, byte)
/** An encoded field. */
export const field = (name: string | Buffer, tag: string, value: Buffer): Buffer =>
  Buffer.concat([shortText(name), Buffer.from(tag), value])

const nested = (depth: number): Buffer => {
  let inner: Buffer = Buffer.alloc(0)
  for (let n = 0; n < depth; n++) inner = field('n', 'F', longText(inner))
  return inner
}

/** Fields by what is special about them. */
export const FIELDS: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['t true', field('t', 't', Buffer.of(1))],
  ['b', field('b', 'b', Buffer.of(0x80))],
  ['B', field('B', 'B', Buffer.of(0x80))],
  ['s', field('s', 's', Buffer.of(0xff, 0xfb))],
  ['s that fits 8 bits', field('s7', 's', Buffer.of(0, 7))],
  ['u', field('u', 'u', Buffer.of(0xff, 0xff))],
  ['I that fits 8 bits', field('seconds', 'I', long(12))],
  ['I negative', field('I', 'I', repeat(4, 0xff))],
  ['i', field('i', 'i', repeat(4, 0xff))],
  [
    'l that fits 8 bits',
    field(
      'l7',
      'l',
      bytes(8, (b) => b.writeBigInt64BE(7n)),
    ),
  ],
  [
    'l beyond 2^53',
    field(
      'l',
      'l',
      bytes(8, (b) => b.writeBigInt64BE(-(2n ** 63n))),
    ),
  ],
  [
    'L',
    field(
      'L',
      'L',
      bytes(8, (b) => b.writeBigInt64BE(9007199254740993n)),
    ),
  ],
  [
    'f',
    field(
      'f',
      'f',
      bytes(4, (b) => b.writeFloatBE(0.1)),
    ),
  ],
  [
    'd',
    field(
      'd',
      'd',
      bytes(8, (b) => b.writeDoubleBE(0.1)),
    ),
  ],
  [
    'd without a fraction',
    field(
      'd2',
      'd',
      bytes(8, (b) => b.writeDoubleBE(2)),
    ),
  ],
  ['D', field('D', 'D', Buffer.of(2, 0xff, 0xff, 0xff, 0xfe))],
  ['S', field('S', 'S', longText('größe 🐇'))],
  ['S that is not UTF-8', field('S8', 'S', longText(Buffer.of(0xff, 0xfe)))],
  ['x', field('x', 'x', longText(Buffer.of(0, 255)))],
  [
    'A',
    field('A', 'A', longText(Buffer.concat([Buffer.from('I'), long(1), Buffer.from('s'), Buffer.of(0, 1), Buffer.from('V')]))),
  ],
  ['F', field('F', 'F', longText(field('deep', 'B', Buffer.of(200))))],
  ['T beyond 2^53', field('T', 'T', repeat(8, 0x7f))],
  ['V', field('V', 'V', Buffer.alloc(0))],
  ['the name !', field('!', 'S', longText('x'))],
  [
    'names that are not UTF-8',
    Buffer.concat([field(Buffer.from('caf\xe8', 'latin1'), 'I', long(1)), field(Buffer.from('caf\xe9', 'latin1'), 'I', long(2))]),
  ],
  ['one name twice', Buffer.concat([field('twice', 'I', long(1)), field('twice', 'I', long(2))])],
  [
    'names that JavaScript sorts',
    Buffer.concat([field('2', 'I', long(2)), field('1', 'I', long(1)), field('__proto__', 'I', long(3))]),
  ],
]

/** Headers that amqplib cannot write, or the gateway cannot read. */
export const LARGE_FIELDS: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['100 levels', nested(100)],
  ['70 KiB', field('large', 'S', longText(repeat(70 * 1024, 0x61)))],
]

/** Properties with their flags, apart from headers, user_id and expiration. */
export const PROPERTIES: readonly (readonly [what: string, flag: number, bytes: Buffer])[] = [
  ['content_type', 0x8000, shortText('text/x-größe')],
  ['content_encoding', 0x4000, shortText('utf-8')],
  ['delivery_mode 1', 0x1000, Buffer.of(1)],
  ['priority', 0x0800, Buffer.of(200)],
  ['correlation_id that is not UTF-8', 0x0400, shortText(Buffer.of(0xff, 0xfe, 0x01))],
  ['reply_to', 0x0200, shortText('answers')],
  ['message_id', 0x0080, shortText('id-1')],
  ['timestamp of 2^64-1', 0x0040, repeat(8, 0xff)],
  ['type', 0x0020, shortText('order.made')],
  ['user_id', 0x0010, shortText('guest')],
  ['app_id that is not UTF-8', 0x0008, shortText(Buffer.of(0xc3))],
]

/** Encoded properties: headers of these fields, if there are any, and other properties. */
export function properties(fields: readonly Buffer[] | undefined, others = PROPERTIES): Buffer {
  const parts = others.map(([, flag, value]) => ({ flag, value }))
  if (fields) parts.push({ flag: 0x2000, value: longText(Buffer.concat(fields)) })
  parts.sort((a, b) => b.flag - a.flag)
  const flags = parts.reduce((sum, { flag }) => sum | flag, 0)
  return Buffer.concat([Buffer.of(flags >> 8, flags & 255), ...parts.map(({ value }) => value)])
}

const SIZES: Record<string, number> = { V: 0, t: 1, b: 1, B: 1, s: 2, u: 2, I: 4, i: 4, f: 4, D: 5, l: 8, L: 8, d: 8, T: 8 }

/** The fields of a table, without its length, each with its name. */
export function fieldsIn(table: Buffer): { name: string; bytes: Buffer }[] {
  const fields: { name: string; bytes: Buffer }[] = []
  for (let at = 0; at < table.length; ) {
    const tagAt = at + 1 + table.readUInt8(at)
    const size = SIZES[String.fromCharCode(table.readUInt8(tagAt))]
    const end = tagAt + 1 + (size ?? 4 + table.readUInt32BE(tagAt + 1))
    fields.push({ name: table.toString('latin1', at + 1, tagAt), bytes: table.subarray(at, end) })
    at = end
  }
  return fields
}

/** Where the headers begin in encoded properties that have some. */
function headersAt(encoded: Buffer): number {
  const flags = encoded.readUInt16BE(0)
  let at = 2
  for (const flag of [0x8000, 0x4000]) if (flags & flag) at += 1 + encoded.readUInt8(at)
  return at
}

/** The headers in encoded properties, without their length; undefined if there are none. */
export function headersIn(encoded: Buffer): Buffer | undefined {
  if ((encoded.readUInt16BE(0) & 0x2000) === 0) return undefined
  const at = headersAt(encoded)
  return encoded.subarray(at + 4, at + 4 + encoded.readUInt32BE(at))
}

/** Encoded properties that have headers, with these instead, or none. */
export function withHeaders(encoded: Buffer, headers: Buffer | undefined): Buffer {
  const at = headersAt(encoded)
  const end = at + 4 + encoded.readUInt32BE(at)
  const flags = encoded.readUInt16BE(0) & (headers ? 0xffff : ~0x2000)
  const before = encoded.subarray(2, at)
  return Buffer.concat([
    Buffer.of(flags >> 8, flags & 255),
    before,
    headers ? longText(headers) : Buffer.alloc(0),
    encoded.subarray(end),
  ])
}
