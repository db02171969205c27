// A JSON parser that keeps the exact value of numbers.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parseExact } from '../../src/messages/exact-json.js'

const int64 = (value: string) => ({ amqp_type: 'int64', value })
const double = (value: number) => ({ amqp_type: 'double', value })

describe('exact JSON parser', () => {
  it('a text without large integers is parsed as JSON.parse does', () => {
    fc.assert(
      fc.property(
        fc.jsonValue().filter((value) => !/(?<![\d.])\d{16}/.test(JSON.stringify(value))),
        (value) => {
          const text = JSON.stringify(value, null, 1)
          assert.deepEqual(parseExact(text), JSON.parse(text))
        },
      ),
    )
    const precise = '[0.12345678901234567, 1e-300, 1.7976931348623157e308]'
    assert.deepEqual(parseExact(precise), JSON.parse(precise))
  })

  it('every 64-bit integer keeps its value', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const safe = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER
        const [parsed] = parseExact(`[${value}]`) as unknown[]
        assert.deepEqual(parsed, safe ? Number(value) : int64(String(value)))
      }),
    )
  })

  it('an integer is tagged from the first one that JavaScript would round', () => {
    assert.deepEqual(parseExact('[9007199254740991, -9007199254740991]'), [9007199254740991, -9007199254740991])
    assert.deepEqual(parseExact('[9007199254740992, -9007199254740993]'), [int64('9007199254740992'), int64('-9007199254740993')])
    assert.deepEqual(parseExact('{"a": {"b": 18446744073709551616}}'), { a: { b: int64('18446744073709551616') } })
  })

  it('a double without a fraction is told from an integer with the doubles option', () => {
    assert.deepEqual(parseExact('[1.0, 1e3, 1, -0.0, 1.5]', { doubles: true }), [double(1), double(1000), 1, double(-0), 1.5])
    assert.deepEqual(parseExact('[1.0, 1e3, 1, 1.5]'), [1, 1000, 1, 1.5])
  })

  it('numbers inside strings stay as they are', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.integer(), (text, number) => {
        const value = { [`9007199254740993 ${text}`]: `${text} "9007199254740993" \\ 1.0`, number }
        assert.deepEqual(parseExact(JSON.stringify(value), { doubles: true }), value)
      }),
    )
    assert.deepEqual(parseExact('["\\"9007199254740993", 1]'), ['"9007199254740993', 1])
    assert.deepEqual(parseExact('["\\\\", 9007199254740993]'), ['\\', int64('9007199254740993')])
  })

  it('an infinite number is left to the validator', () => {
    assert.deepEqual(parseExact('[1e999, -1e999]', { doubles: true }), [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
  })

  it('a text that is not JSON throws a SyntaxError', () => {
    for (const text of [
      '',
      ' ',
      '{',
      '[1,]',
      '{"a":01}',
      'NaN',
      '-Infinity',
      "{'a':1}",
      '{"a":1}x',
      '9007199254740993 x',
      '"\n"',
      '\ufeff',
    ]) {
      assert.throws(() => parseExact(text), SyntaxError, text)
    }
  })

  // A parser of more than linear time would exceed the timeout.
  it('long texts and deep texts are parsed in linear time', { timeout: 60_000 }, () => {
    const deep = `${'['.repeat(100_000)}9007199254740993${']'.repeat(100_000)}`
    const long = `["${'\\"'.repeat(400_000)}", 1.0]`
    assert.doesNotThrow(() => parseExact(deep))
    assert.doesNotThrow(() => parseExact(long, { doubles: true }))
    assert.throws(() => parseExact(`"${'9'.repeat(800_000)}`), SyntaxError)
  })
})
