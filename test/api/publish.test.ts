// Publishing single messages: each response tells what happened to its own message, whatever others publish at the same time.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const gateway = await startGateway()
const receiveAll = async (queue: string) => {
  const all: { payload: unknown; properties: Record<string, unknown> }[] = []
  for (;;) {
    const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=1000`).expect(200)
    if (body.messages.length === 0) return all
    all.push(...body.messages)
  }
}

/** The connections of this process, by RabbitMQ's names. */
const connections = async () => {
  const all = await management<{ name: string; user_provided_name?: string }[]>('connections')
  return all.filter((one) => one.user_provided_name?.includes(`:${process.pid} `)).map(({ name }) => name)
}

describe('publishing', () => {
  it('a publish to a missing queue is answered with 404', async () => {
    const { body } = await gateway.post(`/queues/${freshName()}/messages`).send('x').expect(404)
    assert.equal(body.code, 'queue_not_found')
  })

  it('a publish to an exchange reports whether it was routed, and with mandatory is answered with 404 if not', async () => {
    const exchange = freshName('exchange')
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'fanout' }).expect(201)
    const free = await gateway.post(`/exchanges/${exchange}/messages`).send('x').expect(201)
    assert.equal(free.body.routed, false)
    const { body } = await gateway.post(`/exchanges/${exchange}/messages?mandatory=true`).send('x').expect(404)
    assert.equal(body.code, 'unroutable')
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}`).expect(204)
    const bound = await gateway.post(`/exchanges/${exchange}/messages?mandatory=true`).send('x').expect(201)
    assert.equal(bound.body.routed, true)
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
    const gone = await gateway.post(`/exchanges/${exchange}/messages`).send('x').expect(404)
    assert.equal(gone.body.code, 'exchange_not_found')
  })

  it('a publish to an exchange that another client deleted is answered with 404', async () => {
    const exchange = freshName('exchange')
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'fanout' }).expect(201)
    await gateway.post(`/exchanges/${exchange}/messages`).send('x').expect(201)
    await management(`exchanges/%2F/${exchange}`, { method: 'DELETE' })
    const { body } = await gateway.post(`/exchanges/${exchange}/messages`).send('x').expect(404)
    assert.equal(body.code, 'exchange_not_found')
  })

  it('the default exchange routes to the queue named by the routing key', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/exchanges/amq.default/messages?routing_key=${queue}`).send('x').expect(201)
    assert.equal((await receiveAll(queue)).length, 1)
  })

  it('a message without a message id gets one and a given id is kept', async () => {
    const queue = await freshQueue(gateway)
    const { body } = await gateway.post(`/queues/${queue}/messages`).send('a').expect(201)
    const own = await gateway.post(`/queues/${queue}/messages`).set('amqp-message-id', 'order-1').send('b').expect(201)
    assert.equal(own.body.message_id, 'order-1')
    assert.deepEqual(
      (await receiveAll(queue)).map(({ properties }) => properties['message_id']),
      [body.message_id, 'order-1'],
    )
  })

  it('a publish without confirm is answered with 202 and the message id only', async () => {
    const queue = await freshQueue(gateway)
    const { body } = await gateway.post(`/queues/${queue}/messages?confirm=false`).send('x').expect(202)
    assert.deepEqual(Object.keys(body), ['message_id'])
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 1))
  })

  it('a publish to a missing queue is answered with 404 and copied nowhere, even if CC names an existing queue', async () => {
    const copy = await freshQueue(gateway)
    const { body } = await gateway
      .post(`/queues/${freshName()}/messages`)
      .set('amqp-headers', JSON.stringify({ CC: [copy] }))
      .send('x')
      .expect(404)
    assert.equal(body.code, 'queue_not_found')
    assert.equal((await receiveAll(copy)).length, 0)
  })

  it('a publish that a full queue rejects is answered with a retryable 503', async () => {
    const queue = await freshQueue(gateway, { arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' } })
    await gateway.post(`/queues/${queue}/messages`).send('a').expect(201)
    const { body, headers } = await gateway.post(`/queues/${queue}/messages`).send('b').expect(503)
    assert.equal(body.code, 'publish_rejected')
    assert.equal(body.retryable, true)
    assert.ok(Number(headers['retry-after']) > 0)
  })

  it('a nack of a message that may be a duplicate is answered with 409, which no client repeats', async () => {
    const queue = await freshQueue(gateway, { arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' } })
    await gateway.post(`/queues/${queue}/messages`).send('a').expect(201)
    const again = gateway.post(`/queues/${queue}/messages`).set('amqp-header-x-deduplication-header', 'order-1').send('b')
    const { body, headers } = await again.expect(409)
    assert.deepEqual([body.code, body.retryable, headers['retry-after']], ['publish_refused', false, undefined])
  })

  it('a message that a full queue dead-letters is answered with a problem that does not claim that it is nowhere', async () => {
    const args = { 'x-max-length': 1, 'x-overflow': 'reject-publish-dlx' }
    const queue = await freshQueue(gateway, { dead_letter: true, arguments: args })
    gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
    await gateway.post(`/queues/${queue}/messages`).send('a').expect(201)
    const { body } = await gateway.post(`/queues/${queue}/messages`).send('b').expect(503)
    assert.equal(body.code, 'publish_rejected')
    assert.match(body.detail, /dead letters/)
    assert.doesNotMatch(body.detail, /not stored/)
    assert.equal((await receiveAll(`${queue}.dead`)).length, 1)
  })

  it('a message with x-delay that an exchange returns may be delayed, so the answer has no routed', async () => {
    const exchange = freshName('exchange')
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'fanout' }).expect(201)
    const path = `/exchanges/${exchange}/messages`
    const delayed = (query: string) => gateway.post(`${path}${query}`).set('amqp-headers', '{"x-delay":1000}').send('x')
    for (const query of ['', '?mandatory=true']) {
      const { body } = await delayed(query).expect(201)
      assert.deepEqual(Object.keys(body), ['message_id'])
    }
    const { body } = await gateway
      .post(`${path}/batch`)
      .send({ messages: [{ payload: 'x', properties: { headers: { 'x-delay': 1000 } } }, { payload: 'y' }] })
      .expect(200)
    assert.deepEqual(
      body.results.map(({ status }: { status: string }) => status),
      ['confirmed', 'unroutable'],
    )
    await gateway.post(`${path}?mandatory=true`).send('x').expect(404)
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}`).expect(204)
    assert.equal((await delayed('').expect(201)).body.routed, true)
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
  })

  it('trace headers and CloudEvents attributes are published and received', async () => {
    const queue = await freshQueue(gateway)
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await gateway
      .post(`/queues/${queue}/messages`)
      .set({ traceparent, baggage: 'a=1', 'ce-id': '42', 'ce-source': '/shop', 'ce-type': 'order.made', 'ce-specversion': '1.0' })
      .send('x')
      .expect(201)
    const raw = await gateway.get(`/queues/${queue}/messages?ack=requeue&format=raw`).expect(200)
    assert.equal(raw.headers['traceparent'], traceparent)
    assert.equal(raw.headers['baggage'], 'a=1')
    assert.equal(raw.headers['ce-type'], 'order.made')
    const [message] = await receiveAll(queue)
    assert.equal((message!.properties['headers'] as Record<string, string>)['cloudEvents:source'], '/shop')
  })

  it('a thousand concurrent publishes, some invalid, each get the response to their own message', async () => {
    const queue = await freshQueue(gateway)
    const before = await eventually(async () => {
      const found = await connections()
      assert.equal(found.length, 4)
      return found
    })
    const bad: [path: string, headers: Record<string, string>, status: number, code: string][] = [
      ['/queues/missing-queue/messages', {}, 404, 'queue_not_found'],
      ['/exchanges/missing-exchange/messages?routing_key=x', {}, 404, 'exchange_not_found'],
      ...(
        [
          ['amqp-expiration', '-1'],
          ['amqp-expiration', 'abc'],
          ['amqp-expiration', '1.5'],
          ['amqp-expiration', '4294967296'],
          ['amqp-priority', '256'],
          ['amqp-priority', 'high'],
          ['amqp-delivery-mode', '0'],
          ['amqp-delivery-mode', '3'],
          ['amqp-timestamp', '-5'],
          ['amqp-timestamp', '1.5'],
          ['amqp-user-id', 'somebody-else'],
          ['amqp-reply-to', 'amq.rabbitmq.reply-to'],
          ['amqp-message-id', 'x'.repeat(256)],
          ['amqp-correlation-id', 'ü'.repeat(128)],
          ['amqp-headers', '{"n": 1e999}'],
          ['amqp-headers', '{"n": -1e999}'],
          ['amqp-headers', '{"x": {"!": "int8", "value": 1000}}'],
          ['amqp-headers', '{"CC": "not-an-array"}'],
          ['amqp-headers', '{"BCC": [1, 2]}'],
          ['amqp-headers', `{"${'k'.repeat(129)}": 1}`],
          ['amqp-headers', `{"big": "${'x'.repeat(62_000)}"}`],
          ['amqp-headers', `{"deep": ${'['.repeat(20)}${']'.repeat(20)}}`],
          ['amqp-headers', 'not json'],
          ['amqp-nonsense', 'x'],
        ] as const
      ).map(([name, value]): [string, Record<string, string>, number, string] => [
        `/queues/${queue}/messages`,
        { [name]: Buffer.from(value).toString('latin1') },
        400,
        'invalid_message',
      ]),
    ]
    const good = 1000 - bad.length
    const jobs = Array.from({ length: good }, (_, i) => async () => {
      const { body } = await gateway
        .post(`/queues/${queue}/messages`)
        .set('amqp-message-id', `m${i}`)
        .send(`body ${i}`)
        .expect(201)
      assert.deepEqual(body, { message_id: `m${i}`, routed: true })
    })
    for (const [i, [path, headers, status, code]] of bad.entries()) {
      jobs.splice(Math.floor((i * good) / bad.length), 0, async () => {
        const { body } = await gateway.post(path).set(headers).send('bad').expect(status)
        assert.equal(body.code, code, JSON.stringify(headers))
      })
    }
    // 200 at a time, to spare the machine's sockets.
    const queued = [...jobs]
    await Promise.all(
      Array.from({ length: 200 }, async () => {
        for (let job = queued.shift(); job; job = queued.shift()) await job()
      }),
    )
    const stored = (await receiveAll(queue)).map(({ properties }) => properties['message_id'])
    assert.equal(stored.length, good)
    assert.equal(new Set(stored).size, good)
    assert.deepEqual((await connections()).sort(), before.sort())
  })
})
