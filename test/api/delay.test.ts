// Delayed messages: published with a delay, alone and in batches, and nacked with a delay.

import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { describe, it } from 'node:test'
import supertest from 'supertest'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { freshVhost } from '../support/vhost.js'

const gateway = await startGateway()
const other = await startGateway()

interface Message {
  payload: unknown
  properties: { headers?: Record<string, unknown>; [name: string]: unknown }
  delivery_count?: number
  lease: { id: string }
  routing_key: string
}

/** The next message of a queue, and when it was received. */
async function next(queue: string, from = gateway): Promise<{ message: Message; at: number }> {
  for (;;) {
    const { messages } = (await from.get(`/queues/${queue}/messages?wait=30s`).expect(200)).body
    if (messages.length > 0) return { message: messages[0], at: Date.now() }
  }
}
const ack = (message: Message) => gateway.post(`/leases/${message.lease.id}/ack`).expect(204)

/** How long this process waited for a core: on a busy machine messages may be late for the same reason. */
const stalls = monitorEventLoopDelay({ resolution: 10 })
stalls.enable()

function assertOnTime(delay: number, sent: number, answered: number, arrived: number): void {
  // The delay starts when the gateway accepts the message: after the request was sent, before it was answered.
  assert.ok(arrived - sent >= delay, `early: ${arrived - sent} of ${delay} ms`)
  const allowance = Math.max(500, delay * 0.02) + (5 * stalls.max) / 1e6
  assert.ok(arrived - answered <= delay + allowance, `late: ${arrived - answered} of ${delay} ms, allowed ${allowance} ms more`)
}

describe('publishing with a delay', () => {
  it('delayed messages arrive unchanged and on time, whatever delays were published before them', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages?delay=100ms`).send('warm').expect(201)
    await ack((await next(queue)).message)
    const sent: { delay: number; sent: number; answered: number }[] = []
    for (const delay of [6300, 100, 2500, 700, 1234]) {
      const start = Date.now()
      const { body } = await gateway
        .post(`/queues/${queue}/messages?delay=${delay}ms`)
        .set({ 'amqp-header-n': `${delay}`, 'amqp-type': 'later', 'amqp-priority': '3', 'amqp-delivery-mode': '1' })
        .send(`${delay}`)
        .expect(201)
      assert.equal(body.routed, true)
      sent.push({ delay, sent: start, answered: Date.now() })
    }
    for (const one of sent.sort((a, b) => a.delay - b.delay)) {
      const { message, at } = await next(queue)
      assert.equal(message.payload, String(one.delay))
      assertOnTime(one.delay, one.sent, one.answered, at)
      const { headers, type, priority, delivery_mode: mode } = message.properties
      assert.deepEqual([headers, type, priority, mode], [{ n: String(one.delay) }, 'later', 3, 1])
      await ack(message)
    }
  })

  it('a delayed message is routed by its exchange with its routing key and CC', async () => {
    const [exchange, queue, copy] = [freshName('exchange'), await freshQueue(gateway), await freshQueue(gateway)]
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=eu.*`).expect(204)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${copy}?routing_key=copy`).expect(204)
    const message = { payload: 1, routing_key: 'eu.order', delay: '300ms', properties: { headers: { CC: ['copy'] } } }
    const batch = await gateway.post(`/exchanges/${exchange}/messages/batch`).send({ messages: [message] })
    assert.equal(batch.body.published, 1, batch.text)
    for (const one of [queue, copy]) {
      const { message } = await next(one)
      assert.equal(message.routing_key, 'eu.order')
      assert.equal(message.properties.headers?.['x-death'], undefined)
      await ack(message)
    }
    await supertest(gateway.url).delete(`/exchanges/${exchange}`).expect(204)
  })

  it('a batch, in JSON or NDJSON, may mix delayed and immediate messages', async () => {
    const queue = await freshQueue(gateway)
    const messages = [
      { payload: 'later', delay: '1s' },
      { payload: 'now' },
      { payload: 'soon', delay: 0.2 },
      { payload: 'no', delay: '10ms' },
      { payload: 'neither', delay: '1s', properties: { expiration: '5' } },
    ]
    const { results } = (await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)).body
    assert.deepEqual(
      results.map(({ status }: { status: string }) => status),
      ['confirmed', 'confirmed', 'confirmed', 'invalid', 'invalid'],
    )
    assert.deepEqual(
      results.slice(3).map(({ problem }: { problem: { errors: { pointer: string }[] } }) => problem.errors[0]!.pointer),
      ['/delay', '/properties/expiration'],
    )
    const lines = messages.slice(0, 3).map((message) => JSON.stringify(message))
    const response = await fetch(`${gateway.url}/queues/${queue}/messages/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: `${lines.join('\n')}\n`,
    })
    assert.match(await response.text(), /"published":3/)
    const received: unknown[] = []
    for (let n = 0; n < 6; n++) {
      const { message } = await next(queue)
      received.push(message.payload)
      await ack(message)
    }
    // The order is not certain, since the same messages were published twice, some time apart.
    assert.deepEqual([...received].sort(), ['later', 'later', 'now', 'now', 'soon', 'soon'])
  })

  it('a delayed message can go to another vhost', async () => {
    const { name: vhost, delete: remove } = await freshVhost()
    gateway.cleanups.push(remove)
    await gateway.put(`/vhosts/${vhost}/queues/q`).expect(201)
    await gateway.post(`/vhosts/${vhost}/queues/q/messages?delay=200ms`).send('x').expect(201)
    const { messages } = (await gateway.get(`/vhosts/${vhost}/queues/q/messages?wait=10s&ack=auto`).expect(200)).body
    assert.equal(messages[0].payload, 'x')
  })

  it('a delayed message whose queue was deleted is kept in gateway.delay.undeliverable with the reason', async () => {
    const queue = freshName('queue')
    await gateway.put(`/queues/${queue}`).expect(201)
    const { message_id } = (await gateway.post(`/queues/${queue}/messages?delay=500ms`).set('amqp-header-a', 'b').send('x')).body
    await gateway.delete(`/queues/${queue}`).expect(204)
    const kept = await eventually(async () => {
      // The queue is the gateway's own, so clients cannot read it there.
      const path = 'queues/%2F/gateway.delay.undeliverable/get'
      const order = { count: 100, ackmode: 'ack_requeue_true', encoding: 'auto' }
      const messages = (await management(path, { method: 'POST', body: JSON.stringify(order) })) as Message[]
      const found = messages.find(({ properties }) => properties['message_id'] === message_id)
      assert.ok(found)
      return found as Message
    })
    assert.equal(kept.payload, 'x')
    const { 'gateway-undeliverable': why, a } = kept.properties.headers as Record<string, Record<string, string>>
    assert.equal(a, 'b')
    assert.deepEqual([why!['vhost'], why!['routing_key']], ['/', queue])
    assert.match(why!['reason']!, /queue/i)
  })

  it('an invalid delay, a delay with an expiration and a delay to a missing target are refused', async () => {
    const queue = await freshQueue(gateway)
    const path = `/queues/${queue}/messages`
    for (const delay of ['0s', '99ms', '-1s', '31d', '1w', 'x', '']) {
      const response = await gateway.post(`${path}?delay=${delay}`).send('x')
      assert.deepEqual([response.status, response.body.errors?.[0]?.pointer], [400, '/query/delay'], `${delay} ${response.text}`)
    }
    const both = await gateway.post(`${path}?delay=1s`).set('amqp-expiration', '60000').send('x').expect(400)
    assert.equal(both.body.errors[0].pointer, '/header/amqp-expiration')
    await gateway.post(`/queues/${freshName()}/messages?delay=1s`).send('x').expect(404)
    await gateway.post(`/exchanges/${freshName()}/messages?delay=1s`).send('x').expect(404)
    assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 0)
  })

  it('the metrics count waiting and delivered delayed messages', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages?delay=2s`).send('x').expect(201)
    const metrics = async () => (await gateway.get('/metrics')).text
    await eventually(async () =>
      assert.match(await metrics(), /gateway_delayed_messages\{queue="gateway\.delay\.1600ms"\} [1-9]/),
    )
    await ack((await next(queue)).message)
    assert.match(await metrics(), /gateway_delayed_messages_due_total\{outcome="delivered"\} [1-9]/)
  })
})

describe('nack with a delay', () => {
  for (const type of ['classic', 'quorum']) {
    it(`a message nacked with a delay returns to its ${type} queue on time and keeps counting its deliveries`, async () => {
      const queue = await freshQueue(gateway, { type })
      await gateway.post(`/queues/${queue}/messages`).set('amqp-header-a', 'b').send('x').expect(201)
      const first = (await next(queue)).message
      assert.equal(first.delivery_count, type === 'quorum' ? 1 : undefined)
      // First at the other instance, then again at the one that holds the lease.
      const sent = Date.now()
      await other.post(`/leases/${first.lease.id}/nack`).send({ delay: '700ms' }).expect(204)
      const answered = Date.now()
      await gateway.post(`/leases/${first.lease.id}/nack`).send({ delay: '700ms' }).expect(204)
      await other.post(`/leases/${first.lease.id}/ack`).expect(409)
      const { message: second, at } = await next(queue)
      assertOnTime(700, sent, answered, at)
      assert.deepEqual([second.delivery_count, second.payload, second.properties.headers?.['a']], [2, 'x', 'b'])
      // A nack without a delay requeues the message itself, not a copy.
      await gateway.post(`/leases/${second.lease.id}/nack`).expect(204)
      const third = (await next(queue)).message
      assert.equal(third.delivery_count, 3)
      await gateway.post(`/leases/${third.lease.id}/nack`).send({ delay: 0.1 }).expect(204)
      const fourth = (await next(queue)).message
      assert.equal(fourth.delivery_count, 4)
      await ack(fourth)
    })
  }

  it('a message nacked with a delay returns only to the queue that it was received from, whatever CC named', async () => {
    const [queue, copied] = [await freshQueue(gateway), await freshQueue(gateway)]
    const headers = JSON.stringify({ CC: [copied], a: 'b' })
    await gateway.post(`/queues/${queue}/messages`).set('amqp-headers', headers).send('x').expect(201)
    await ack((await next(copied)).message)
    await gateway
      .post(`/leases/${(await next(queue)).message.lease.id}/nack`)
      .send({ delay: '100ms' })
      .expect(204)
    const { message } = await next(queue)
    assert.deepEqual(message.properties.headers, { CC: [copied], a: 'b' })
    assert.equal((await gateway.get(`/queues/${copied}`).expect(200)).body.message_count, 0)
    await ack(message)
  })

  it('a bulk settle accepts a delay for single messages', async () => {
    const queue = await freshQueue(gateway)
    for (let n = 0; n < 3; n++) await gateway.post(`/queues/${queue}/messages`).send(`${n}`).expect(201)
    const { messages } = (await gateway.get(`/queues/${queue}/messages?max=3&wait=5s`).expect(200)).body
    const [first, second, third] = messages.map(({ lease }: Message) => lease.id)
    const body = { ack: [first], nack: [{ id: second, delay: '300ms' }, { id: third }] }
    const { results } = (await other.post('/leases/settle').send(body).expect(200)).body
    assert.deepEqual(
      results.map(({ status }: { status: string }) => status),
      ['acked', 'nacked', 'nacked'],
    )
    const received = [await next(queue), await next(queue)]
    assert.deepEqual(
      received.map(({ message }) => message.payload),
      ['2', '1'],
    )
    for (const { message } of received) await ack(message)
  })

  it('an invalid delay of a nack is refused and the lease stays open', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    const { message } = await next(queue)
    for (const body of [{ delay: '1ms' }, { delay: '31d' }, { delay: 'soon' }, { delay: '1s', requeue: false }]) {
      const response = await gateway.post(`/leases/${message.lease.id}/nack`).send(body).expect(400)
      assert.equal(response.body.errors[0].pointer, '/body/delay')
    }
    await ack(message)
  })
})
