// CloudEvents in binary, structured and batch mode, over the HTTP and the AMQP binding, with the CNCF's SDK and pika as peers.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CloudEvent, HTTP, type Message } from 'cloudevents'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { rawClient } from '../support/http.js'
import { startPika } from '../support/pika-client.js'
import type { Result } from '../support/upload.js'

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

/** Bytes that are not text: the SDK reads them back only from the structured form. */
const bytes = Buffer.from([0, 1, 2, 0xfe, 0xff, 10, 13, 0x22])
const binary = new CloudEvent({ ...attributes, datacontenttype: 'application/octet-stream', data: new Uint8Array(bytes) })

/** Publishes an event as the SDK encoded it, as an HTTP client would. */
async function send(queue: string, { headers, body }: Message): Promise<void> {
  const { status, text } = await client.send({
    method: 'post',
    path: `/queues/${queue}/messages`,
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
    body: body === undefined ? '' : String(body),
  })
  assert.equal(status, 201, text)
}

/** Receives one raw message and has the SDK decode it. */
async function receive(queue: string): Promise<CloudEvent<unknown>> {
  const { status, headers, text } = await client.send({
    method: 'get',
    path: `/queues/${queue}/messages?format=raw&ack=auto&wait=5s`,
  })
  assert.equal(status, 200, text)
  // A CloudEvents client reads only these headers.
  const known = Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('ce-'))
  return HTTP.toEvent({ headers: Object.fromEntries(known), body: text }) as CloudEvent<unknown>
}

describe('CloudEvents in binary mode', () => {
  for (const [what, event] of events) {
    it(`a binary-mode event with ${what} is received as it was published`, async () => {
      const queue = await freshQueue(gateway)
      const sent = HTTP.binary(event)
      // The binding percent-encodes everything but visible ASCII; the SDK leaves that to its caller.
      for (const name in sent.headers) {
        if (name.startsWith('ce-'))
          sent.headers[name] = name === 'ce-subject' ? encodeURIComponent(String(sent.headers[name])) : sent.headers[name]
      }
      await send(queue, sent)
      // The SDK leaves the decoding to its caller, too, and reads a missing body as an empty one.
      const back = JSON.parse(JSON.stringify(await receive(queue)), (key, value) =>
        typeof value === 'string' && key === 'subject' ? decodeURIComponent(value) : value,
      )
      if (event.data === undefined) {
        assert.equal(back.data, '')
        delete back.datacontenttype // the SDK always writes one
      }
      assert.deepEqual({ ...back, data: event.data }, { ...JSON.parse(JSON.stringify(event)), data: event.data })
      if (event.data !== undefined) assert.deepEqual(back.data, event.data)
    })
  }

  it('the extensions and the time of a binary-mode event are kept as written', async () => {
    const queue = await freshQueue(gateway)
    const extensions = { count: 7, flag: false, comexampleother: 'https://example.com/?a=b&c', sequence: '00042' }
    const time = '2026-11-23T11:30:00.123456789+01:30'
    const headers = {
      'ce-specversion': '1.0',
      'ce-id': 'e-1',
      'ce-source': '/s',
      'ce-type': 't',
      'ce-time': time,
      ...Object.fromEntries(Object.entries(extensions).map(([name, value]) => [`ce-${name}`, String(value)])),
    }
    await send(queue, { headers, body: 'x' })
    const { headers: back } = await client.send({ method: 'get', path: `/queues/${queue}/messages?format=raw&ack=auto&wait=5s` })
    for (const [name, value] of Object.entries(headers)) assert.equal(back[name], value, name)
    const event = HTTP.toEvent({ headers: { ...headers, 'ce-time': String(back['ce-time']) }, body: 'x' }) as CloudEvent<unknown>
    assert.equal(new Date(event.time!).getTime(), Date.parse('2026-11-23T10:00:00.123Z'))
  })

  it('a binary-mode event carries any bytes to and from AMQP', async () => {
    const queue = await freshQueue(gateway)
    const { headers } = HTTP.binary(binary)
    const { status } = await client.send({
      method: 'post',
      path: `/queues/${queue}/messages`,
      headers: { ...(headers as Record<string, string>), 'ce-subject': 'x' },
      body: bytes,
    })
    assert.equal(status, 201)
    const message = await eventually(async () => {
      const got = await pika.get(queue)
      assert.ok(got)
      return got
    })
    assert.deepEqual(Buffer.from(message.body, 'base64'), bytes)
    assert.equal(message.headers['cloudEvents:tenant'], 'a')
    await pika.publish({
      routing_key: queue,
      body: bytes,
      properties: { content_type: 'application/octet-stream' },
      headers: message.headers,
    })
    const answer = await eventually(async () => {
      const response = await fetch(`${gateway.url}/queues/${queue}/messages?format=raw&ack=auto`)
      assert.equal(response.status, 200)
      return response
    })
    assert.deepEqual([answer.headers.get('ce-id'), answer.headers.get('ce-tenant')], ['e-1', 'a'])
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes)
  })

  it('a binary-mode event without a required attribute is refused with 400 and the attribute named', async () => {
    const queue = await freshQueue(gateway)
    const whole = { 'ce-specversion': '1.0', 'ce-id': 'e-1', 'ce-source': '/s', 'ce-type': 't' }
    const post = (headers: Record<string, string>) =>
      gateway.post(`/queues/${queue}/messages`).set(headers).type('text').send('x')
    for (const name of ['ce-id', 'ce-source', 'ce-type'] as const) {
      const { [name]: _, ...others } = whole
      for (const headers of [others, { ...whole, [name]: '' }]) {
        const { body } = await post(headers).expect(400)
        assert.deepEqual(
          [body.code, body.errors.map((error: { pointer: string }) => error.pointer)],
          ['invalid_message', [`/header/${name}`]],
        )
      }
    }
    const { body } = await post({ 'ce-specversion': '' }).expect(400)
    assert.equal(body.errors.length, 4)
    assert.equal((await gateway.get(`/queues/${queue}`).expect(200)).body.message_count, 0)
    // Accepted: the other attributes are in amqp-headers, or the message is not an event since it has no specversion.
    const { 'ce-specversion': specversion, ...rest } = whole
    const exact = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name.replace('ce-', 'cloudEvents:'), value]))
    await post({ 'ce-specversion': specversion, 'amqp-headers': JSON.stringify(exact) }).expect(201)
    await post({ 'ce-type': 't' }).expect(201)
  })

  it('a binary-mode event is published with cloudEvents: headers and its data as the body', async () => {
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
    it(`an event that an AMQP client published with ${prefix} headers is received as an event`, async () => {
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

  it('an attribute with a broken percent-encoding is refused with 400 and named', async () => {
    const queue = await freshQueue(gateway)
    for (const value of ['%', '%zz', '100%', '%ff']) {
      const { body } = await gateway.post(`/queues/${queue}/messages`).set('ce-subject', value).type('text').send('x').expect(400)
      assert.deepEqual([body.code, body.errors[0].pointer], ['invalid_message', '/header/ce-subject'], value)
    }
  })
})

describe('CloudEvents in structured mode', () => {
  for (const [what, event] of [...events, ['bytes', binary] as const]) {
    it(`a structured-mode event with ${what} is received byte for byte`, async () => {
      const queue = await freshQueue(gateway)
      const sent = HTTP.structured(event)
      assert.equal(what === 'bytes', String(sent.body).includes('"data_base64"'))
      await send(queue, sent)
      await send(queue, sent)
      const back = await receive(queue)
      assert.deepEqual(back.toJSON(), event.toJSON())
      const { headers, text } = await client.send({
        method: 'get',
        path: `/queues/${queue}/messages?format=raw&ack=auto&wait=5s`,
      })
      assert.equal(text, sent.body)
      assert.equal(headers['content-type'], sent.headers['content-type'])
    })
  }

  it('a structured-mode event keeps its content type in AMQP', async () => {
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

describe('CloudEvents in batch mode', () => {
  const batch = (queue: string, body: unknown) =>
    gateway
      .post(`/queues/${queue}/messages/batch`)
      .type('application/cloudevents-batch+json')
      .send(typeof body === 'string' ? body : JSON.stringify(body))

  it('each event of a batch becomes one structured-mode message, in order', async () => {
    const queue = await freshQueue(gateway)
    const made = [...events.map(([, event]) => event), binary].map((event, n) => event.cloneWith({ id: `b-${n}` }))
    const { body } = await batch(queue, made).expect(200)
    assert.deepEqual([body.published, body.failed], [4, 0])
    assert.deepEqual(
      body.results.map(({ id }: { id: string }) => id),
      ['b-0', 'b-1', 'b-2', 'b-3'],
    )
    for (const event of made) assert.deepEqual((await receive(queue)).toJSON(), event.toJSON())
  })

  it('large numbers and binary data in a batch are kept as written', async () => {
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

  it('an invalid event in a batch fails alone', async () => {
    const queue = await freshQueue(gateway)
    const good = { specversion: '1.0', id: 'g', source: '/s', type: 't' }
    const { id: _id, ...noId } = good
    const { body } = await batch(queue, [good, noId, { ...good, type: '' }, { ...good, source: 5 }, 'x', null, good]).expect(200)
    assert.deepEqual(
      body.results.map(({ status }: { status: string }) => status),
      ['confirmed', 'invalid', 'invalid', 'invalid', 'invalid', 'invalid', 'confirmed'],
    )
    assert.deepEqual(
      body.results.map(({ id }: { id?: string }) => id),
      ['g', undefined, 'g', 'g', undefined, undefined, 'g'],
    )
    assert.deepEqual(
      body.results.slice(1, 4).map(({ problem }: Result) => problem!.errors!.map(({ pointer }) => pointer)),
      [['/id'], ['/type'], ['/source']],
    )
  })

  it('an event above MAX_MESSAGE_SIZE in a batch fails alone', async () => {
    const small = await startGateway({ MAX_MESSAGE_SIZE: '1KiB' })
    const queue = await freshQueue(small)
    const event = (id: string, data: string) => ({ specversion: '1.0', id, source: '/s', type: 't', data })
    const { body } = await small
      .post(`/queues/${queue}/messages/batch`)
      .type('application/cloudevents-batch+json')
      .send(JSON.stringify([event('large', 'x'.repeat(1024)), event('small', 'x')]))
      .expect(200)
    assert.deepEqual(
      body.results.map(({ id, status, problem }: Result) => [id, status, problem?.code]),
      [
        ['large', 'invalid', 'message_too_large'],
        ['small', 'confirmed', undefined],
      ],
    )
  })

  it('a batch to an exchange uses the routing key of the query', async () => {
    const queue = await freshQueue(gateway)
    const { body } = await gateway
      .post(`/exchanges/amq.default/messages/batch?routing_key=${queue}`)
      .type('application/cloudevents-batch+json')
      .send(JSON.stringify([events[0]![1], events[1]![1]]))
      .expect(200)
    assert.equal(body.published, 2)
    assert.deepEqual((await receive(queue)).toJSON(), events[0]![1].toJSON())
  })

  it('a malformed, empty or too long batch of events is refused with 400', async () => {
    const queue = await freshQueue(gateway)
    for (const body of ['', '{', '{}', '[]', 'null', '{"messages": []}']) {
      assert.equal((await batch(queue, body).expect(400)).body.code, 'invalid_request', body)
    }
    const good = JSON.stringify({ specversion: '1.0', id: 'g', source: '/s', type: 't', data: 'ü' })
    const latin1 = await client.send({
      method: 'post',
      path: `/queues/${queue}/messages/batch`,
      headers: { 'content-type': 'application/cloudevents-batch+json' },
      body: Buffer.from(`[${good}]`, 'latin1'),
    })
    assert.equal((latin1.body as { code: string }).code, 'invalid_request')
    const many = (await batch(queue, `[${Array(10_001).fill(good)}]`).expect(400)).body
    assert.equal(many.code, 'invalid_request')
  })
})
