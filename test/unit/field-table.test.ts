// Field tables: any bytes from a broker are decoded without loss or shown as undecodable, and never throw.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import '../../src/amqp/wire/amqplib.js'
import { decodeFields, encodedSize, type FieldTable, TypedValue } from '../../src/amqp/wire/field-table.js'
import { parseExact } from '../../src/messages/exact-json.js'
import { tableFromJson, tableToJson } from '../../src/messages/headers.js'
import { headers } from '../support/generate.js'

const require = createRequire(import.meta.url)
const lib = join(dirname(require.resolve('amqplib')), 'lib')
const codec = require(join(lib, 'codec.js'))
const defs = require(join(lib, 'defs.js'))

const encode = (table: object): Buffer => {
  const buffer = Buffer.alloc(256 * 1024)
  return buffer.subarray(4, codec.encodeTable(buffer, table, 0))
}
const read = (json: unknown): FieldTable => {
  const errors: object[] = []
  const table = tableFromJson(parseExact(JSON.stringify(json), { doubles: true }), '', errors as never)
  assert.deepEqual(errors, [])
  return table
}
/** An encoded table with one field named `k`. */
const field = (tag: string, value: Buffer | number[]): Buffer =>
  Buffer.concat([Buffer.of(1), Buffer.from(`k${tag}`, 'latin1'), Buffer.from(value)])
const decoded = (tag: string, value: Buffer | number[]) => decodeFields(field(tag, value))['k']
const bytes = (length: number, write: (buffer: Buffer) => void): Buffer => {
  const buffer = Buffer.alloc(length)
  write(buffer)
  return buffer
}
const long = (length: number): Buffer => bytes(4, (b) => b.writeUInt32BE(length))
const undecodable = (table: unknown): boolean => table instanceof TypedValue && table['!'] === 'undecodable'

describe('field table', () => {
  it('a table of any types and names survives encoding and decoding', () => {
    fc.assert(
      fc.property(headers, (json) => {
        const back = parseExact(tableToJson(decodeFields(encode(read(json)))))
        assert.deepEqual(back, JSON.parse(JSON.stringify(json)))
      }),
      { numRuns: 500 },
    )
  })

  it('a decoded table is encoded to the same table', () => {
    fc.assert(
      fc.property(headers, (json) => {
        const once = decodeFields(encode(read(json)))
        assert.deepEqual(decodeFields(encode(once)), once)
      }),
    )
  })

  it('an encoded table is never larger than its estimated size', () => {
    fc.assert(
      fc.property(headers, (json) => {
        const table = read(json)
        assert.ok(encodedSize(table) >= encode(table).length)
      }),
    )
  })

  it('a number of any size and kind keeps its value', () => {
    const numbers = [1.5, 2 ** 50 + 0.5, -(2 ** 50) - 0.25, 4503599627370495.5, 1e300, -1e300, 5e-324, 1e21, -1e21]
    for (const value of numbers) {
      const table = decodeFields(encode(read({ value })))
      const shown = (JSON.parse(tableToJson(table)) as { value: unknown }).value
      assert.equal(shown, value)
    }
  })

  it('the largest and smallest 64-bit integers keep their value', () => {
    for (const value of ['9223372036854775807', '-9223372036854775808', '9007199254740993', '-9007199254740993']) {
      const table = decodeFields(encode(read({ value: { amqp_type: 'int64', value } })))
      assert.equal(tableToJson(table), `{"value":{"amqp_type":"int64","value":"${value}"}}`)
    }
    for (const value of [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2 ** 31, -(2 ** 31) - 1, 127, 128, -129, 0]) {
      assert.equal(decodeFields(encode(read({ value })))['value'], value)
    }
  })

  it('every type tag that a client library writes is decoded', () => {
    assert.equal(decoded('b', [0x80]), -128)
    assert.equal(decoded('B', [0x80]), 128)
    assert.equal(decoded('s', [0x80, 0]), -32768)
    assert.equal(decoded('u', [0x80, 0]), 32768)
    assert.equal(decoded('I', [0x80, 0, 0, 0]), -(2 ** 31))
    assert.equal(decoded('i', [0x80, 0, 0, 0]), 2 ** 31)
    const minusOne = Buffer.alloc(8, 0xff)
    assert.equal(decoded('l', minusOne), -1)
    assert.equal(decoded('L', minusOne), -1)
    assert.deepEqual(
      decoded(
        'L',
        bytes(8, (b) => b.writeBigInt64BE(2n ** 60n)),
      ),
      new TypedValue('int64', 2n ** 60n),
    )
    assert.equal(
      decoded(
        'f',
        bytes(4, (b) => b.writeFloatBE(0.5)),
      ),
      0.5,
    )
    assert.equal(
      decoded(
        'd',
        bytes(8, (b) => b.writeDoubleBE(0.1)),
      ),
      0.1,
    )
    assert.deepEqual(
      decoded(
        'd',
        bytes(8, (b) => b.writeDoubleBE(2)),
      ),
      new TypedValue('double', 2),
    )
    assert.deepEqual(
      decoded(
        'T',
        bytes(8, (b) => b.writeBigUInt64BE(1_700_000_000n)),
      ),
      new TypedValue('timestamp', 1_700_000_000),
    )
    assert.deepEqual(decoded('T', Buffer.alloc(8, 0xff)), new TypedValue('timestamp', 2n ** 64n - 1n))
    assert.deepEqual(decoded('D', [2, 0, 0, 1, 0x3a]), new TypedValue('decimal', { places: 2, digits: 314 }))
    assert.equal(decoded('V', []), null)
    assert.equal(decoded('t', [2]), true)
    assert.equal(decoded('t', [0]), false)
    assert.deepEqual(decoded('x', [...long(2), 0, 255]), Buffer.of(0, 255))
    assert.equal(decoded('S', [...long(2), 0xc3, 0xbc]), 'ü')
    assert.deepEqual(decoded('A', [...long(2), 0x56, 0x56]), [null, null])
  })

  it('a string that is not UTF-8 is shown as bytes', () => {
    assert.deepEqual(decoded('S', [...long(2), 0xff, 0xfe]), Buffer.of(0xff, 0xfe))
  })

  it('NaN and Infinity are shown as tagged values', () => {
    for (const [value, text] of [
      [Number.NaN, 'NaN'],
      [Number.POSITIVE_INFINITY, 'Infinity'],
    ] as const) {
      const table = decodeFields(
        field(
          'd',
          bytes(8, (b) => b.writeDoubleBE(value)),
        ),
      )
      assert.equal(tableToJson(table), `{"k":{"amqp_type":"double","value":"${text}"}}`)
    }
  })

  it('names such as __proto__ are ordinary names', () => {
    const table = decodeFields(encode(read(JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1, "toString": 2}'))))
    assert.deepEqual(Object.keys(table), ['__proto__', 'constructor', 'toString'])
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
  })

  it('a table with an unknown tag is undecodable and keeps its bytes', () => {
    const unknown = field('?', [1, 2, 3])
    const table = decodeFields(unknown)
    assert.ok(undecodable(table))
    assert.equal(tableToJson(table), `{"amqp_type":"undecodable","value":"${unknown.toString('base64')}"}`)
  })

  it('a table with a wrong length is undecodable', () => {
    for (const tag of ['S', 'x', 'F', 'A']) {
      for (const length of [1, 5, 1000, 0x7fffffff, 0xffffffff]) {
        assert.ok(undecodable(decodeFields(field(tag, long(length)))), `${tag} ${length}`)
      }
    }
    assert.ok(undecodable(decodeFields(Buffer.of(200, 1, 2))), 'a name')
    assert.ok(undecodable(decodeFields(field('A', [...long(3), 0x49, 0, 0, 0, 1]))), 'an array that ends in a value')
    for (const tag of 'bBsuIilLfdTDt') assert.ok(undecodable(decodeFields(field(tag, []))), tag)
  })

  it('a field that is nested too deep is undecodable, and the other fields are read', () => {
    for (const tag of ['A', 'F']) {
      let value: Buffer = Buffer.alloc(0)
      for (let depth = 0; depth < 5000; depth++)
        value = Buffer.concat([Buffer.from(tag === 'A' ? 'A' : '\u0000F'), long(value.length), value])
      const field = tag === 'A' ? Buffer.concat([Buffer.from('\u0001k'), value]) : value
      const table = decodeFields(Buffer.concat([field, Buffer.from('\u0001zV')]))
      assert.ok(undecodable(table[tag === 'A' ? 'k' : '']), tag)
      assert.equal(table['z'], null)
    }
  })

  it('decoding never throws, whatever the bytes are', () => {
    const near = headers.chain((json) =>
      fc.tuple(fc.constant(encode(read(json))), fc.nat(), fc.nat(255)).map(([buffer, at, byte]) => {
        const changed = Buffer.from(buffer)
        if (changed.length > 0) changed[at % changed.length] = byte
        return changed
      }),
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
          near,
        ),
        (buffer) => {
          JSON.parse(tableToJson(decodeFields(buffer)))
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('amqplib with the gateway’s decoder', () => {
  /** Decodes a content header with these encoded headers and no other properties. */
  const decodeProperties = (fields: Buffer) =>
    defs.decode(defs.BasicProperties, Buffer.concat([Buffer.of(0x20, 0x00), long(fields.length), fields]))

  it('amqplib reads the headers of a message with the gateway’s decoder', () => {
    const { headers } = decodeProperties(
      field(
        'l',
        bytes(8, (b) => b.writeBigInt64BE(9007199254740993n)),
      ),
    )
    assert.deepEqual(headers['k'], new TypedValue('int64', 9007199254740993n))
  })

  it('undecodable headers do not end the connection', () => {
    assert.ok(undecodable(decodeProperties(field('?', [])).headers))
  })
})
