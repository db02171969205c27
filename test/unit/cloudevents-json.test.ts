// Messages as CloudEvents in structured mode, checked with the cloudevents package.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HTTP } from 'cloudevents'
import { TypedValue } from '../../src/amqp/wire/field-table.js'
import type { Properties } from '../../src/amqp/wire/message.js'
import { eventOf, STRUCTURED } from '../../src/messages/cloudevents-json.js'

const ORIGIN = { vhost: '/', queue: 'or ders', id: 'm-1' }
const message = (body: string | Buffer, properties: Properties = {}) => ({
  exchange: '',
  routingKey: 'or ders',
  redelivered: false,
  properties,
  body: Buffer.from(body),
})
const event = (body: string | Buffer, properties?: Properties) => eventOf(message(body, properties), ORIGIN).toString()
/** Parses an event as a receiver does. */
const read = (text: string) => {
  const found = HTTP.toEvent({ headers: { 'content-type': STRUCTURED }, body: text })
  assert.ok(!Array.isArray(found))
  return found
}

describe('CloudEvents in structured mode', () => {
  it('an event gets its id, source and type from the message and its queue', () => {
    const text = event('{"order": 12345678901234567890}', {
      contentType: 'application/json',
      type: 'order.created',
      timestamp: 1_700_000_000,
    })
    assert.match(text, /"data":\{"order": 12345678901234567890\}/)
    const { id, source, type, time, datacontenttype, specversion } = read(text)
    assert.deepEqual(
      { id, source, type, time, datacontenttype, specversion },
      {
        id: 'm-1',
        source: '/vhosts/%2F/queues/or%20ders',
        type: 'order.created',
        time: '2023-11-14T22:13:20.000Z',
        datacontenttype: 'application/json',
        specversion: '1.0',
      },
    )
  })

  it('an event has text as a string, bytes as base64, and no data if the message is empty', () => {
    assert.equal(read(event('grüße', { contentType: 'text/plain' })).data, 'grüße')
    assert.equal(read(event('plain')).type, 'rabbitmq.message')
    assert.match(event(Buffer.from([0xff, 0]), { contentType: 'image/png' }), /"data_base64":"\/wA="/)
    assert.match(event('{broken', { contentType: 'application/json' }), /"data_base64"/)
    assert.doesNotMatch(event(''), /"data/)
  })

  it('a message in binary mode keeps the attributes of its event', () => {
    const headers = {
      'cloudEvents:id': 'e-7',
      'cloudEvents:source': '/shop',
      'cloudEvents:type': 'sold',
      'cloudEvents:specversion': '1.0',
      cloudEvents_time: new TypedValue('timestamp', 1_700_000_000),
      'ce-count': 3,
      'cloudEvents:big': 5_000_000_000,
      other: 'no attribute',
    }
    const found = JSON.parse(event('x', { contentType: 'text/plain', headers }))
    assert.deepEqual(found, {
      id: 'e-7',
      source: '/shop',
      type: 'sold',
      specversion: '1.0',
      time: '2023-11-14T22:13:20.000Z',
      count: 3,
      big: '5000000000',
      datacontenttype: 'text/plain',
      data: 'x',
    })
    read(JSON.stringify(found))
  })

  it('a message in structured mode is passed on unchanged', () => {
    const body = '{"specversion":"1.0", "id":"1","source":"s","type":"t"}'
    assert.equal(event(body, { contentType: 'application/cloudevents+json; charset=utf-8' }), body)
  })

  it('a message without a required attribute becomes a new event', () => {
    assert.equal(read(event('x', { headers: { 'cloudEvents:specversion': '1.0', 'cloudEvents:id': 'a' } })).id, 'm-1')
  })
})
