// CloudEvents, with the CNCF's own SDK and pika at the other ends: binary, structured and batch mode, by the HTTP binding and
// the AMQP binding.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CloudEvent, HTTP, type Message } from 'cloudevents'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { rawClient } from '../support/http.js'
import { startPika } from '../support/peers.js'

const gateway = await startGateway()
const client = rawClient(gateway.url)
const pika = startPika()

const attributes = {
  id: 'e-1',
  type: 'com.example.order.made',
  source: '/shop/gr%C3%B6%C3%9Fe?a=1',
  subject: 'ünïcode "quoted" 100%, 漢字 🐇',
  time: '2026-11-23T10:00:00.123Z',
  dataschema: 'https://example.com/schema',
  tenant: 'a',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
}

const events: [what: string, event: CloudEvent<unknown>][] = [
  ['JSON', new CloudEvent({ ...attributes, datacontenttype: 'application/json', data: { order: 42, name: 'größe' } })],
  ['text', new CloudEvent({ ...attributes, datacontenttype: 'text/plain', data: 'Grüße 🐇' })],
  ['no data', new CloudEvent({ id: 'e-2', type: 't', source: '/s' })],
]

/** Publishes what the SDK made of an event, as an HTTP client would. */
async function send(queue: string, { headers, body }: Message): Promise<void> {
  const { status, text } = await client.send({
    method: 'post',
    path: `/queues/${queue}/messages`,
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
    body: body === undefined ? '' : String(body),
  })
  assert.equal(status, 201, text)
}

/** What the SDK reads out of a raw answer. */
async function receive(queue: string): Promise<CloudEvent<unknown>> {
  const { status, headers, text } = await client.send({
    method: 'get',
    path: `/queues/${queue}/messages?format=raw&ack=auto&wait=5s`,
  })
  assert.equal(status, 200, text)
  // An HTTP client that knows CloudEvents takes only what is of them.
  const known = Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('ce-'))
  return HTTP.toEvent({ headers: Object.fromEntries(known), body: text }) as CloudEvent<unknown>
}

describe('an event in binary mode', () => {
  for (const [what, event] of events) {
    it(`comes out as it went in, with ${what}`, async () => {
      const queue = await freshQueue(gateway)
      const sent = HTTP.binary(event)
      // The binding percent-encodes what is no visible ASCII; the SDK leaves that to whoever sends.
      for (const name in sent.headers) {
        if (name.startsWith('ce-'))
          sent.headers[name] = name === 'ce-subject' ? encodeURIComponent(String(sent.headers[name])) : sent.headers[name]
      }
      await send(queue, sent)
      // The SDK leaves the percent-encoding to whoever receives, too; and no body is to it an empty one.
      const back = JSON.parse(JSON.stringify(await receive(queue)), (key, value) =>
        typeof value === 'string' && key === 'subject' ? decodeURIComponent(value) : value,
      )
      if (event.data === undefined) {
        assert.equal(back.data, '')
        delete back.datacontenttype // its HTTP writer always says one
      }
      assert.deepEqual({ ...back, data: event.data }, { ...JSON.parse(JSON.stringify(event)), data: event.data })
      if (event.data !== undefined) assert.deepEqual(back.data, event.data)
    })
  }

  it('is written to AMQP as its binding says: headers named cloudEvents:…, the data as the body', async () => {
    const queue = await freshQueue(gateway)
    const path = `/queues/${queue}/messages`
    const headers = {
      'content-type': 'text/plain',
      'ce-specversion': '1.0',
      'ce-id': 'e-1',
      'ce-source': '/s',
      'ce-type': 't',
      'ce-subject': 'Gr%C3%BC%C3%9Fe%20%F0%9F%90%87%20100%25',
    }
    assert.equal((await client.send({ method: 'post', path, headers, body: 'hello' })).status, 201)
    const message = await eventually(async () => {
      const got = await pika.get(queue)
      assert.ok(got)
      return got
    })
    assert.equal(Buffer.from(message.body, 'base64').toString(), 'hello')
    assert.equal(message.properties['content_type'], 'text/plain')
    assert.deepEqual(message.headers, {
      'cloudEvents:specversion': '1.0',
      'cloudEvents:id': 'e-1',
      'cloudEvents:source': '/s',
      'cloudEvents:type': 't',
      'cloudEvents:subject': 'Grüße 🐇 100%',
    })
  })

  for (const prefix of ['cloudEvents:', 'cloudEvents_', 'ce-']) {
    it(`is understood when another client wrote it with ${prefix}`, async () => {
      const queue = await freshQueue(gateway)
      await pika.publish({
        routing_key: queue,
        body: '{"order": 1}',
        properties: { content_type: 'application/json' },
        headers: {
          [`${prefix}specversion`]: '1.0',
          [`${prefix}id`]: 'e-9',
          [`${prefix}source`]: '/pika',
          [`${prefix}type`]: 'order.made',
          [`${prefix}time`]: { py: 'datetime', v: '1700000000' },
          [`${prefix}count`]: { py: 'int', v: '7' },
          [`${prefix}flag`]: true,
        },
      })
      const event = await receive(queue)
      const { id, source, type, time, specversion, data } = event
      assert.deepEqual(
        { id, source, type, time, specversion, data, count: event['count'], flag: event['flag'] },
        {
          id: 'e-9',
          source: '/pika',
          type: 'order.made',
          time: '2023-11-14T22:13:20.000Z',
          specversion: '1.0',
          data: { order: 1 },
          count: '7',
          flag: 'true',
        },
      )
    })
  }

  it('with a broken percent-encoding is a 400 that names the attribute', async () => {
    const queue = await freshQueue(gateway)
    for (const value of ['%', '%zz', '100%', '%ff']) {
      const { body } = await gateway.post(`/queues/${queue}/messages`).set('ce-subject', value).type('text').send('x').expect(400)
      assert.deepEqual([body.code, body.errors[0].pointer], ['invalid_message', '/header/ce-subject'], value)
    }
  })
})

describe('an event in structured mode', () => {
  for (const [what, event] of events) {
    it(`comes out byte for byte, with ${what}`, async () => {
      const queue = await freshQueue(gateway)
      await send(queue, HTTP.structured(event))
      const back = await receive(queue)
      assert.deepEqual(back.toJSON(), event.toJSON())
    })
  }

  it('has its content type in AMQP', async () => {
    const queue = await freshQueue(gateway)
    await send(queue, HTTP.structured(events[0]![1]))
    const message = await eventually(async () => {
      const got = await pika.get(queue)
      assert.ok(got)
      return got
    })
    assert.match(String(message.properties['content_type']), /^application\/cloudevents\+json/)
  })
})

describe('a batch of events', () => {
  const batch = (queue: string, body: unknown) =>
    gateway
      .post(`/queues/${queue}/messages/batch`)
      .type('application/cloudevents-batch+json')
      .send(typeof body === 'string' ? body : JSON.stringify(body))

  it('becomes a message each, in structured mode, in order', async () => {
    const queue = await freshQueue(gateway)
    const made = events.map(([, event], n) => event.cloneWith({ id: `b-${n}` }))
    const { body } = await batch(queue, made).expect(200)
    assert.deepEqual([body.published, body.failed], [3, 0])
    assert.deepEqual(
      body.results.map(({ id }: { id: string }) => id),
      ['b-0', 'b-1', 'b-2'],
    )
    for (const event of made) assert.deepEqual((await receive(queue)).toJSON(), event.toJSON())
  })

  it('keeps large numbers and binary data as they were written', async () => {
    const queue = await freshQueue(gateway)
    const text =
      '[{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AAH/","big": 12345678901234567890}, {"specversion": "1.0","id":"2","source":"/s","type":"t","data":{"n":9007199254740993}}]'
    const { body } = await batch(queue, text).expect(200)
    assert.equal(body.published, 2)
    const path = `/queues/${queue}/messages?format=raw&ack=auto`
    const first = await client.send({ method: 'get', path })
    assert.equal(first.text, text.slice(1, text.indexOf('}') + 1))
    assert.match((await client.send({ method: 'get', path })).text, /"n":9007199254740993/)
  })

  it('has one bad event fail alone', async () => {
    const queue = await freshQueue(gateway)
    const good = { specversion: '1.0', id: 'g', source: '/s', type: 't' }
    const { id: _id, ...noId } = good
    const { body } = await batch(queue, [good, noId, { ...good, type: '' }, { ...good, source: 5 }, 'x', null, good]).expect(200)
    assert.deepEqual(
      body.results.map(({ status }: { status: string }) => status),
      ['confirmed', 'invalid', 'invalid', 'invalid', 'invalid', 'invalid', 'confirmed'],
    )
    assert.equal(body.results[1].problem.errors[0].pointer, '/id')
  })

  it('that is none, or has none, is a 400', async () => {
    const queue = await freshQueue(gateway)
    for (const body of ['', '{', '{}', '[]', 'null', '{"messages": []}']) {
      assert.equal((await batch(queue, body).expect(400)).body.code, 'invalid_request', body)
    }
  })
})
