// The JSON form of a message.

import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { ReceivedMessage } from '../../src/amqp/wire/message.js'
import { now, timestamp } from '../../src/lib/clock.js'
import { tableFromJson } from '../../src/messages/headers.js'
import { type Encoding, messageToJson } from '../../src/messages/json.js'
import { headers } from '../support/generate.js'

const message = (body: Buffer | string, properties: ReceivedMessage['properties'] = {}): ReceivedMessage => ({
  exchange: 'e',
  routingKey: 'r',
  redelivered: false,
  properties,
  body: Buffer.from(body),
})
const shown = (body: Buffer | string, contentType?: string, encoding: Encoding = 'auto') =>
  JSON.parse(messageToJson(message(body, { contentType }), encoding))

describe('JSON form of a message', () => {
  it('a message is one line of JSON with the whole body, whatever its content', () => {
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
      fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
      fc.json().map((text) => Buffer.from(text)),
    )
    const contentType = fc.constantFrom(
      undefined,
      'application/json',
      'text/plain',
      'application/cloudevents+json; charset=utf-8',
    )
    const encoding = fc.constantFrom<Encoding>('auto', 'string', 'base64')
    fc.assert(
      fc.property(body, contentType, encoding, fc.string(), headers, (body, contentType, encoding, type, json) => {
        const text = messageToJson(message(body, { contentType, type, headers: tableFromJson(json, '', []) }), encoding)
        assert.doesNotMatch(text, /[\r\n]/)
        const { payload, payload_encoding, payload_bytes, properties } = JSON.parse(text)
        assert.equal(payload_bytes, body.length)
        if (payload_encoding === 'string') assert.deepEqual(Buffer.from(payload), body)
        else if (payload_encoding === 'base64') assert.deepEqual(Buffer.from(payload, 'base64'), body)
        else assert.deepEqual(payload, JSON.parse(body.toString()))
        if (encoding === 'base64') assert.equal(payload_encoding, 'base64')
        else if (!isUtf8(body)) assert.equal(payload_encoding, 'base64')
        else if (encoding === 'string') assert.equal(payload_encoding, 'string')
        assert.equal(properties.type, type)
        assert.equal('headers' in properties, Object.keys(json).length > 0)
      }),
      { numRuns: 500 },
    )
  })

  it('a JSON payload is copied byte for byte', () => {
    for (const text of [
      '9007199254740993',
      '1.0',
      '1e400',
      '{"a": 1.10, "a": 2}',
      '"\\u00fc"',
      ' [1] ',
      '-0',
      'null',
      'false',
      '0',
    ]) {
      const json = messageToJson(message(text, { contentType: 'application/json' }), 'auto')
      assert.ok(json.startsWith(`{"payload":${text},"payload_encoding":"json"`), json)
    }
  })

  it('a payload is JSON if its content type says so and its bytes are JSON', () => {
    for (const type of ['application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON', 'application/vnd.a.b+json']) {
      assert.equal(shown('{"a":1}', type).payload_encoding, 'json', type)
    }
    for (const type of [undefined, '', 'text/plain', 'text/json5', 'application/jsonp', 'application/x-ndjson', 'json']) {
      assert.equal(shown('{"a":1}', type).payload_encoding, 'string', type)
    }
    for (const text of ['', '{', '{"a":1}\n{"a":2}', 'NaN', '{"a":1}x']) {
      const { payload, payload_encoding } = shown(text, 'application/json')
      assert.deepEqual([payload, payload_encoding], [text, 'string'])
    }
    // A byte order mark is no part of the JSON.
    const { payload, payload_encoding } = shown('\ufeff{"a":1}', 'application/json')
    assert.deepEqual([payload, payload_encoding], [{ a: 1 }, 'json'])
  })

  it('a compressed payload is not parsed', () => {
    const json = JSON.parse(
      messageToJson(message('{"a":1}', { contentType: 'application/json', contentEncoding: 'gzip' }), 'auto'),
    )
    assert.equal(json.payload_encoding, 'string')
    assert.equal(shown(Buffer.of(0x1f, 0x8b, 0xff)).payload_encoding, 'base64')
  })

  it('unset properties are omitted, and empty values are shown', () => {
    const bare = JSON.parse(messageToJson(message('x', { contentType: undefined, headers: {} }), 'auto'))
    assert.deepEqual(bare, {
      payload: 'x',
      payload_encoding: 'string',
      payload_bytes: 1,
      exchange: 'e',
      routing_key: 'r',
      redelivered: false,
      properties: {},
    })
    const set = JSON.parse(messageToJson(message('x', { priority: 0, type: '', timestamp: 0 }), 'auto'))
    assert.deepEqual(set.properties, { priority: 0, timestamp: 0, type: '' })
  })

  it('properties have AMQP’s names, and a lease has its expiry', () => {
    const all: ReceivedMessage['properties'] = {
      contentType: 'a/b',
      contentEncoding: 'gzip',
      deliveryMode: 2,
      priority: 1,
      correlationId: 'c',
      replyTo: 'r',
      expiration: '1000',
      messageId: 'm',
      timestamp: 1,
      type: 't',
      userId: 'u',
      appId: 'app',
      headers: { k: 'v' },
    }
    const expiresAt = now() + 30_000
    const json = JSON.parse(messageToJson({ ...message('x', all), deliveryCount: 3 } as never, 'auto', { id: 'abc', expiresAt }))
    assert.deepEqual(Object.keys(json.properties).sort(), [
      'app_id',
      'content_encoding',
      'content_type',
      'correlation_id',
      'delivery_mode',
      'expiration',
      'headers',
      'message_id',
      'priority',
      'reply_to',
      'timestamp',
      'type',
      'user_id',
    ])
    assert.equal(json.delivery_count, 3)
    assert.deepEqual(json.lease, { id: 'abc', expires_at: timestamp(expiresAt) })
  })
})
