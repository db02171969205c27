// The raw form of a message: properties in HTTP headers, in both directions.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { TypedValue } from '../../src/amqp/wire/field-table.js'
import type { Properties, ReceivedMessage } from '../../src/amqp/wire/message.js'
import { tableFromJson, tableToJson } from '../../src/messages/headers.js'
import { readProperties, writeProperties } from '../../src/messages/raw.js'
import { Problem } from '../../src/problems.js'
import { headers } from '../support/generate.js'

/** The headers as Node reads them from a socket: lower-case names, bytes as Latin-1. */
const overTheWire = (http: Record<string, string>) =>
  Object.fromEntries(Object.entries(http).map(([name, value]) => [name.toLowerCase(), value]))
const latin1 = (text: string): string => Buffer.from(text).toString('latin1')
const read = (http: Record<string, string>) => readProperties(http, 'guest')
const message = (properties: Properties): ReceivedMessage => ({
  exchange: '',
  routingKey: 'q',
  redelivered: false,
  properties,
  body: Buffer.alloc(0),
})

function refusal(http: Record<string, string>): Problem {
  try {
    read(http)
  } catch (error) {
    assert.ok(error instanceof Problem)
    return error
  }
  throw new Error(`${JSON.stringify(http)} was taken`)
}
const pointers = (http: Record<string, string>): string[] => refusal(http).options.errors!.map(({ pointer }) => pointer)

// biome-ignore lint/suspicious/noControlCharactersInRegex: HTTP cannot carry these characters
const carried = (text: string): boolean => !/[\u0000-\u0008\u000a-\u001f\u007f]|^[ \t]|[ \t]$/.test(text)
const text = fc
  .oneof(fc.string({ minLength: 1, maxLength: 60 }), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }))
  .filter(carried)
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
const someProperties: fc.Arbitrary<Properties> = fc.record({
  contentType: optional(text),
  contentEncoding: optional(text),
  deliveryMode: fc.constantFrom(1, 2),
  priority: optional(fc.nat(255)),
  correlationId: optional(text),
  replyTo: optional(text),
  expiration: optional(fc.nat(0xffffffff).map(String)),
  messageId: text,
  timestamp: optional(fc.nat(Number.MAX_SAFE_INTEGER)),
  type: optional(text),
  userId: optional(fc.constant('guest')),
  appId: optional(text),
})

describe('properties of a raw message', () => {
  it('properties that are written to HTTP headers and read again are the same', () => {
    fc.assert(
      fc.property(someProperties, headers, (properties, json) => {
        const table = tableFromJson(json, '', [])
        let http: Record<string, string>
        try {
          http = writeProperties(message({ ...properties, headers: table }))
        } catch (error) {
          assert.ok(error instanceof Problem && error.code === 'not_acceptable' && tableToJson(table).length > 1000)
          return
        }
        for (const name of ['amqp-redelivered', 'amqp-exchange', 'amqp-routing-key']) delete http[name]
        const { headers, ...back } = read(overTheWire(http))
        const set = Object.entries(properties).filter(([, value]) => value !== undefined)
        assert.deepEqual(back, Object.fromEntries(set))
        assert.equal(tableToJson(headers ?? {}), tableToJson(table))
      }),
      { numRuns: 500 },
    )
  })

  it('a message without properties is persistent and gets an id', () => {
    const { messageId, ...others } = read({ host: 'localhost', accept: '*/*' })
    assert.match(messageId, /^[0-9a-f-]{36}$/)
    assert.deepEqual(others, { deliveryMode: 2 })
  })

  it('every property accepts values up to its limit', () => {
    read({ 'amqp-expiration': '0', 'amqp-priority': '0', 'amqp-delivery-mode': '1', 'amqp-timestamp': '0' })
    read({ 'amqp-expiration': '4294967295', 'amqp-priority': '255', 'amqp-timestamp': '18446744073709551615' })
    assert.equal(read({ 'amqp-type': 'x'.repeat(255) }).type?.length, 255)
    assert.equal(read({ 'amqp-type': latin1('ü'.repeat(127)) }).type, 'ü'.repeat(127))
    assert.equal(read({ 'amqp-user-id': 'guest' }).userId, 'guest')
  })

  it('a bad value is refused with a pointer to its header', () => {
    const long = 'x'.repeat(256)
    const bad: Record<string, string[]> = {
      'content-type': [long],
      'content-encoding': [long],
      'amqp-message-id': [long, latin1('ü'.repeat(128))],
      'amqp-correlation-id': [long],
      'amqp-reply-to': [long, 'amq.rabbitmq.reply-to'],
      'amqp-expiration': ['', '-1', '1.5', ' 5', '5 ', '1e3', 'abc', '4294967296', '99999999999', '30s', '0x10', 'NaN'],
      'amqp-priority': ['', '-1', '256', '1.5', 'high', '1e2', '1, 2', '0x1'],
      'amqp-delivery-mode': ['0', '3', '', 'persistent', '2, 2'],
      'amqp-timestamp': ['-5', '1.5', 'now', '2026-01-01T00:00:00Z', '18446744073709551616', ''],
      'amqp-type': [long],
      'amqp-app-id': [long],
      'amqp-user-id': ['somebody-else', '', 'GUEST'],
      'amqp-nonsense': ['', 'x'],
      'amqp-': ['x'],
      'amqp-header-': ['x'],
      'amqp-redelivered': ['false'],
    }
    for (const [name, values] of Object.entries(bad)) {
      for (const value of values) {
        assert.deepEqual(pointers({ [name]: value }), [`/header/${name}`], `${name}: ${value}`)
        assert.equal(refusal({ [name]: value }).code, 'invalid_message')
      }
    }
  })

  it('all mistakes are reported at once', () => {
    const wrong = { 'amqp-priority': '256', 'amqp-expiration': 'soon', 'amqp-headers': '{"a": 1e999}', 'amqp-user-id': 'other' }
    assert.deepEqual(pointers(wrong).sort(), [
      '/header/amqp-expiration',
      '/header/amqp-headers/a',
      '/header/amqp-priority',
      '/header/amqp-user-id',
    ])
  })

  it('header values are read as UTF-8, and as Latin-1 if they are not UTF-8', () => {
    assert.equal(read({ 'amqp-type': latin1('Grüße 🐇') }).type, 'Grüße 🐇')
    assert.equal(read({ 'amqp-type': 'Gr\u00fc\u00dfe' }).type, 'Grüße')
  })
})

describe('AMQP headers of a raw message', () => {
  it('a single header may repeat a header of amqp-headers but not contradict it', () => {
    const table = read({ 'amqp-header-tenant': 'a', 'amqp-headers': '{"Size": 7, "Tenant": "a"}' }).headers!
    assert.deepEqual({ ...table }, { Size: new TypedValue('int32', 7), Tenant: 'a' })
    assert.deepEqual(pointers({ 'amqp-header-size': '7', 'amqp-headers': '{"Size": 7}' }), ['/header/amqp-header-size'])
  })

  it('two headers whose names differ only in case are kept apart', () => {
    const http = writeProperties(message({ messageId: '1', headers: { A: '1', a: '2' } }))
    assert.deepEqual({ ...read({ 'amqp-headers': http['amqp-headers']!, 'amqp-header-a': '2' }).headers }, { A: '1', a: '2' })
  })

  it('an amqp-headers value that is not a JSON object is refused', () => {
    for (const value of ['', 'x', '[]', 'null', '1', '"x"', '{', '{"a":NaN}', '{"a":1}}', latin1('{"a":"ü}')]) {
      assert.deepEqual(pointers({ 'amqp-headers': value }), ['/header/amqp-headers'], value)
    }
  })

  it('amqp-headers of more than 60 KiB or 16 levels, or with a "!" key, are refused', () => {
    const nested = (levels: number) => `{"a":${'['.repeat(levels)}${']'.repeat(levels)}}`
    assert.deepEqual(pointers({ 'amqp-headers': JSON.stringify({ a: 'x'.repeat(61 * 1024) }) }), ['/header/amqp-headers'])
    read({ 'amqp-headers': nested(15) })
    assert.equal(pointers({ 'amqp-headers': nested(17) }).length, 1)
    assert.equal(pointers({ 'amqp-headers': nested(5000) }).length, 1)
    assert.deepEqual(pointers({ 'amqp-headers': '{"x": {"!": "int8", "value": 1000}}' }), ['/header/amqp-headers/x/!'])
  })

  it('CC and BCC headers have to be arrays of routing keys', () => {
    for (const name of ['CC', 'BCC']) {
      assert.deepEqual(read({ 'amqp-headers': `{"${name}": ["a", "b"]}` }).headers?.[name], ['a', 'b'])
      for (const value of ['"a"', '[1]', '{}', 'null', 'true', `["${'x'.repeat(256)}"]`, '[["a"]]']) {
        assert.deepEqual(pointers({ 'amqp-headers': `{"${name}": ${value}}` }), [`/header/amqp-headers/${name}`], value)
      }
    }
  })

  it('trace context and CloudEvents headers become AMQP headers and back', () => {
    const http = { traceparent: '00-1-2-01', tracestate: 'a=b', baggage: 'c=d', 'ce-id': '1', 'ce-type': 'a%20b%C3%BC' }
    const { headers, messageId } = read(http)
    assert.deepEqual(
      { ...headers },
      {
        traceparent: '00-1-2-01',
        tracestate: 'a=b',
        baggage: 'c=d',
        'cloudEvents:id': '1',
        'cloudEvents:type': 'a bü',
      },
    )
    const out = writeProperties(message({ messageId, headers: headers! }))
    for (const [name, value] of Object.entries(http)) assert.equal(out[name], value)
    assert.deepEqual(pointers({ 'ce-type': '%zz' }), ['/header/ce-type'])
  })
})

describe('headers of a raw response', () => {
  const refused = (properties: Properties): boolean => {
    try {
      writeProperties(message(properties))
      return false
    } catch (error) {
      assert.ok(error instanceof Problem)
      assert.equal(error.code, 'not_acceptable')
      return true
    }
  }

  it('an event that is published again keeps the prefix of its attributes, and has each once', () => {
    for (const prefix of ['cloudEvents_', 'cloudEvents:', 'ce-']) {
      const attributes = { id: '1', source: '/s', specversion: '1.0', type: 't' }
      const own = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`${prefix}${name}`, value]))
      const response = overTheWire(writeProperties(message({ headers: own })))
      const http = Object.fromEntries(Object.entries(response).filter(([name]) => /^(ce-|amqp-headers$)/.test(name)))
      assert.equal(http['ce-id'], '1')
      assert.deepEqual({ ...read(http).headers }, own)
      assert.deepEqual({ ...read({ ...http, 'ce-subject': 'x' }).headers }, { ...own, [`${prefix}subject`]: 'x' })
    }
  })

  it('a raw message has at most 8 KiB of headers, or as much as there is room for', () => {
    assert.equal(refused({ headers: { a: 'x'.repeat(7500) } }), false)
    assert.equal(refused({ headers: { a: 'x'.repeat(8300) } }), true)
    assert.equal(refused({ headers: { a: '🐇'.repeat(1000) } }), true) // \ud83d\udc07 each
    const crowd = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`k${i}`, 'value']))
    const http = writeProperties(message({ headers: crowd }))
    const size = Object.entries(http).reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0)
    assert.ok(size <= 8192 && 'amqp-header-k0' in http && !('amqp-header-k399' in http))
    assert.throws(() => writeProperties(message({ headers: { a: 'x'.repeat(1000) } }), 1000), { code: 'not_acceptable' })
  })

  it('a property that an HTTP header cannot carry is left out and named', () => {
    for (const value of ['a\r\nset-cookie: b', 'a\nb', '\u0000', 'x\u007f', ' x', 'x ']) {
      const http = writeProperties(message({ type: value, appId: value, correlationId: 'kept' }))
      assert.deepEqual([http['amqp-type'], http['amqp-app-id'], http['amqp-correlation-id']], [undefined, undefined, 'kept'])
      assert.deepEqual(http['amqp-omitted']?.split(', ').sort(), ['amqp-app-id', 'amqp-type'])
    }
    assert.equal(refused({ headers: { a: 'x\r\ny', 'b\r\nc': '1' } }), false) // escaped in amqp-headers only
  })
})
