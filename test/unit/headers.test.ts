// Headers and arguments from JSON: an invalid value is refused with its place, before it reaches a channel.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type FieldTable, TypedValue } from '../../src/amqp/wire/field-table.js'
import { parseExact } from '../../src/messages/exact-json.js'
import { tableFromJson, tableToJson } from '../../src/messages/headers.js'
import type { FieldError } from '../../src/problems.js'
import { headers, odd } from '../support/generate.js'

const read = (json: unknown): { table: FieldTable; errors: FieldError[] } => {
  const errors: FieldError[] = []
  return { table: tableFromJson(json, '/h', errors), errors }
}
const pointers = (json: unknown): string[] => read(json).errors.map(({ pointer }) => pointer)
const nested = (levels: number, wrap: (inner: unknown) => unknown): unknown => {
  let value: unknown = 1
  for (let level = 0; level < levels; level++) value = wrap(value)
  return value
}

describe('AMQP headers in JSON', () => {
  it('headers that are written and read again are the same', () => {
    fc.assert(
      fc.property(headers, (json) => {
        const { table, errors } = read(json)
        assert.deepEqual(errors, [])
        const again = read(parseExact(tableToJson(table), { doubles: true }))
        assert.deepEqual(again, { table, errors: [] })
      }),
    )
  })

  it('reading headers never throws and names the place of every mistake', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ maxLength: 10 }), odd, { maxKeys: 4 }), (json) => {
        const { table, errors } = read(json)
        for (const { pointer, detail } of errors) {
          assert.ok(pointer.startsWith('/h'), pointer)
          assert.ok(detail.length > 0)
        }
        if (errors.length === 0) JSON.parse(tableToJson(table))
      }),
      { numRuns: 500 },
    )
  })

  it('a tagged value has the type of its tag', () => {
    const { table, errors } = read({
      time: { amqp_type: 'timestamp', value: 1_700_000_000 },
      big: { amqp_type: 'int64', value: '9007199254740993' },
      bytes: { amqp_type: 'bytes', value: 'AP8=' },
      price: { amqp_type: 'decimal', value: { places: 2, digits: 314 } },
      whole: { amqp_type: 'double', value: 1 },
      theirs: { amqp_type: 'table', value: { amqp_type: 'mine' } },
    })
    assert.deepEqual(errors, [])
    assert.deepEqual(table['time'], new TypedValue('timestamp', 1_700_000_000n))
    assert.deepEqual(table['big'], new TypedValue('int64', 9007199254740993n))
    assert.deepEqual(table['bytes'], Buffer.of(0, 255))
    assert.deepEqual(table['price'], new TypedValue('decimal', { places: 2, digits: 314 }))
    assert.deepEqual(table['whole'], new TypedValue('double', 1))
    assert.deepEqual({ ...(table['theirs'] as FieldTable) }, { amqp_type: 'mine' })
  })

  it('an integer beyond 2^53 keeps its digits, also in a tag', () => {
    for (const text of ['{"n":9007199254740993}', '{"n":{"amqp_type":"int64","value":9007199254740993}}']) {
      const { table, errors } = read(parseExact(text, { doubles: true }))
      assert.deepEqual(errors, [], text)
      assert.deepEqual(table['n'], new TypedValue('int64', 9007199254740993n))
    }
  })

  it('a double without a fraction stays a double, also in a tag', () => {
    for (const text of ['{"n":1.0}', '{"n":{"amqp_type":"double","value":1.0}}', '{"n":{"amqp_type":"double","value":1}}']) {
      const { table, errors } = read(parseExact(text, { doubles: true }))
      assert.deepEqual(errors, [], text)
      assert.deepEqual(table['n'], new TypedValue('double', 1))
    }
  })

  it('headers that are not an object are refused', () => {
    for (const json of [null, 1, 'x', true, [], [{}]]) assert.deepEqual(pointers(json), ['/h'])
  })

  it('a number that is not finite is refused', () => {
    assert.deepEqual(pointers(JSON.parse('{"a": 1e999, "b": [0, -1e999]}')), ['/h/a', '/h/b/1'])
    assert.deepEqual(pointers({ a: Number.NaN }), ['/h/a'])
  })

  it('a key named "!" is refused, as amqplib would take it for a type tag', () => {
    assert.deepEqual(pointers({ '!': 'int8', value: 1000 }), ['/h/!'])
    assert.deepEqual(pointers({ a: { '!': 'int8', value: 1000 } }), ['/h/a/!'])
    assert.deepEqual(pointers({ a: [{ '!': 'nope' }] }), ['/h/a/0/!'])
    assert.deepEqual(pointers({ a: { amqp_type: 'table', value: { '!': 1 } } }), ['/h/a/!'])
  })

  it('a key of more than 128 bytes is refused', () => {
    assert.deepEqual(pointers({ ['k'.repeat(128)]: 1, ['ü'.repeat(64)]: 1 }), [])
    assert.deepEqual(pointers({ ['k'.repeat(129)]: 1 }), [`/h/${'k'.repeat(64)}`])
    assert.deepEqual(pointers({ ['ü'.repeat(65)]: 1 }), [`/h/${'ü'.repeat(64)}`])
  })

  it('a pointer to a header is escaped as in RFC 6901', () => {
    assert.deepEqual(pointers({ 'a/b~c': Number.NaN }), ['/h/a~1b~0c'])
  })

  it('text that is not well-formed Unicode is refused', () => {
    assert.deepEqual(pointers({ a: '\ud800' }), ['/h/a'])
    assert.equal(pointers({ '\ud800': 1 }).length, 1)
  })

  it('headers of more than 16 levels are refused', () => {
    assert.deepEqual(pointers(nested(16, (a) => ({ a }))), [])
    assert.equal(pointers(nested(17, (a) => ({ a }))).length, 1)
    assert.deepEqual(pointers({ a: nested(15, (a) => [a]) }), [])
    assert.equal(pointers({ a: nested(16, (a) => [a]) }).length, 1)
    for (const deep of [
      nested(5000, (a) => [a]),
      nested(5000, (a) => ({ a })),
      nested(5000, (value) => ({ amqp_type: 'table', value })),
    ]) {
      assert.equal(pointers({ deep }).length, 1)
    }
  })

  it('headers of more than 60 KiB in AMQP’s encoding are refused', () => {
    const overhead = 12 // two lengths, two type tags, the name and its length
    assert.deepEqual(pointers({ a: 'x'.repeat(60 * 1024 - overhead) }), [])
    assert.deepEqual(pointers({ a: 'x'.repeat(60 * 1024) }), ['/h'])
    assert.deepEqual(pointers({ a: 'ü'.repeat(31 * 1024) }), ['/h'])
    assert.deepEqual(pointers({ a: Array.from({ length: 70_000 }, () => null) }), ['/h'])
    assert.deepEqual(pointers({ a: { amqp_type: 'bytes', value: Buffer.alloc(62_000).toString('base64') } }), ['/h'])
  })

  it('headers with many mistakes report at most 20', () => {
    assert.equal(read(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [i, Number.NaN]))).errors.length, 20)
    assert.ok(read({ a: Array.from({ length: 10_000 }, () => Number.NaN) }).errors.length <= 20)
  })

  it('a tagged value that does not fit its tag is refused', () => {
    const wrong: Record<string, unknown[]> = {
      int64: [
        '9223372036854775808',
        '-9223372036854775809',
        '1.5',
        'x',
        '',
        ' 1',
        '0x10',
        1.5,
        2 ** 60,
        null,
        {},
        '9'.repeat(5000),
      ],
      timestamp: [-1, '-1', 1.5, 'now', '18446744073709551616', null, []],
      double: ['1', Number.NaN, Number.POSITIVE_INFINITY, null, {}],
      bytes: ['AP8', 'AP-_', 'A', '****', 'AP8=\n', 1, null, {}],
      decimal: [
        {},
        { places: 2 },
        { places: 256, digits: 1 },
        { places: -1, digits: 1 },
        { places: 1, digits: 2 ** 32 },
        { places: 1.5, digits: 1 },
        { places: 1, digits: '1' },
        { places: 1, digits: 1, more: 1 },
        '1.5',
        null,
      ],
      table: [1, 'x', null, []],
      int8: [1],
      undecodable: ['AP8='],
      '': [1],
      __proto__: [1],
    }
    for (const [amqp_type, values] of Object.entries(wrong)) {
      for (const value of values) {
        assert.deepEqual(pointers({ a: { amqp_type, value } }), ['/h/a'], `${amqp_type} ${JSON.stringify(value)}`)
      }
      assert.deepEqual(pointers({ a: { amqp_type } }), ['/h/a'], amqp_type)
    }
    for (const amqp_type of [null, 1, {}, []]) assert.deepEqual(pointers({ a: { amqp_type, value: 1 } }), ['/h/a'])
    assert.deepEqual(pointers({ a: { amqp_type: 'int64', value: 1, more: 1 } }), ['/h/a'])
  })

  it('a top-level key named amqp_type is an ordinary header', () => {
    const { table, errors } = read({ amqp_type: 'mine', value: 1 })
    assert.deepEqual(errors, [])
    assert.equal(tableToJson(table), '{"amqp_type":"mine","value":1}')
  })
})
