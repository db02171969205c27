// Messages of AMQP 1.0 clients. Some of them RabbitMQ cannot deliver: it ends the connection of their receiver.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { publishOverAmqp10, UNDELIVERABLE } from '../support/amqp10-client.js'
import { startReceiver, subscribe } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { openStream } from '../support/stream.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

// With one shared connection every lease is on the one that ends.
// A vhost of its own, since all instances in a vhost deliver its subscriptions.
const vhost = await freshVhost('amqp10')
const { AMQP_URL } = vhost.env
const gateway = await startGateway({ AMQP_URL, AMQP_LEASE_CONNECTIONS: '1', PUSH_ALLOWED_NETWORKS: '127.0.0.0/8' })
deleteWith(gateway, vhost)
const { quarantine } = gateway.app.services.vhosts.default
const publish = (queue: string, body: string) => gateway.post(`/queues/${queue}/messages`).send(body).expect(201)
const receive = (queue: string, query = '') => gateway.get(`/queues/${queue}/messages${query}`)
const ready = () => eventually(() => assert.equal(gateway.app.services.notReady(), undefined))

async function lease(queue: string): Promise<string> {
  const { body } = await receive(queue, '?wait=2s').expect(200)
  return body.messages[0].lease.id
}

/** A queue with good messages and then one that RabbitMQ cannot deliver. It has already ended a shared connection. */
async function poisonedQueue(good: string[] = []): Promise<string> {
  const queue = await freshQueue(gateway)
  for (const body of good) await publish(queue, body)
  await publishOverAmqp10(AMQP_URL, queue, 'poison', UNDELIVERABLE)
  assert.equal((await receive(queue, '?max=10').expect(503)).body.code, 'broker_unavailable')
  await ready()
  return queue
}

/** Receives until the queue is quarantined. @returns the problem */
async function quarantined(queue: string) {
  for (let n = 0; n < 3; n++) assert.equal((await receive(queue).expect(503)).body.code, 'broker_unavailable')
  return receive(queue).expect(503)
}

describe('messages of AMQP 1.0 clients', () => {
  it('a message from AMQP 1.0 is received with its body', async () => {
    const queue = await freshQueue(gateway)
    await publishOverAmqp10(AMQP_URL, queue, 'hello', { message_id: 'm-1', content_type: 'text/plain' })
    const { body } = await receive(queue, '?wait=2s&ack=auto').expect(200)
    assert.equal(body.messages[0].payload, 'hello')
  })
})

describe('messages that RabbitMQ cannot deliver', () => {
  it('a message that RabbitMQ cannot deliver ends no lease of another queue after the first time', async () => {
    const other = await freshQueue(gateway)
    for (const body of ['a', 'b']) await publish(other, body)
    const first = await lease(other)
    const queue = await poisonedQueue()
    await gateway.get(`/leases/${first}`).expect(410)
    const second = await lease(other)
    await quarantined(queue)
    await gateway.post(`/leases/${second}/ack`).expect(204)
  })

  it('a queue that ends its connection three times in a row is quarantined, and tried again after a while', async () => {
    const queue = await poisonedQueue()
    const { body, headers } = await quarantined(queue)
    assert.equal(body.code, 'queue_quarantined')
    assert.equal(body.retryable, true)
    const { text } = await gateway.get('/metrics').expect(200)
    assert.match(text, /^gateway_queues_quarantined\{state="resting"\} [1-9]/m)
    await sleep(Number(headers['retry-after']) * 1000)
    assert.equal((await receive(queue).expect(503)).body.code, 'broker_unavailable')
    const again = await receive(queue).expect(503)
    assert.equal(again.body.code, 'queue_quarantined')
    assert.ok(Number(again.headers['retry-after']) > Number(headers['retry-after']), again.text)
  })

  it('messages before one that RabbitMQ cannot deliver are received and settled', async () => {
    const queue = await poisonedQueue(['1', '2', '3'])
    const leases = [await lease(queue), await lease(queue), await lease(queue)]
    await quarantined(queue)
    for (const id of leases) await gateway.post(`/leases/${id}/ack`).expect(204)
  })

  it('receives that share their turn get the messages before one that RabbitMQ cannot deliver', async () => {
    const queue = await poisonedQueue(['1', '2', '3'])
    const answers = await Promise.all([1, 2, 3].map(() => receive(queue, '?wait=2s').expect(200)))
    const ids = answers.map(({ body }) => body.messages[0].lease.id)
    for (const id of ids) await gateway.post(`/leases/${id}/ack`).expect(204)
  })

  it('a quarantined queue that is purged works again at once', async () => {
    const queue = await poisonedQueue()
    await quarantined(queue)
    await gateway.delete(`/queues/${queue}/messages`).expect(200)
    await publish(queue, 'good')
    assert.equal((await receive(queue, '?wait=2s&ack=auto').expect(200)).body.messages[0].payload, 'good')
  })

  it('a queue that was received from when a shared connection ended returns to the shared ones', async () => {
    const innocent = await freshQueue(gateway)
    const waiting = receive(innocent, '?wait=30s').then((answer) => answer)
    await eventually(async () => assert.match((await gateway.get('/metrics')).text, /^gateway_receives_waiting 1$/m))
    const queue = await poisonedQueue()
    assert.equal((await waiting).status, 503)
    assert.deepEqual([quarantine.has(innocent), quarantine.has(queue)], [true, true])
    await receive(innocent).expect(200)
    await eventually(() => assert.deepEqual([quarantine.has(innocent), quarantine.has(queue)], [false, true]))
  })

  it('a subscription delivers what is before a message that RabbitMQ cannot deliver, and its status says what is wrong', async () => {
    const queue = await freshQueue(gateway)
    for (const body of ['1', '2', '3']) await publish(queue, body)
    await publishOverAmqp10(AMQP_URL, queue, 'poison', UNDELIVERABLE)
    const receiver = await startReceiver()
    const name = freshName('subscription')
    await subscribe(gateway, name, { queue, url: receiver.url })
    const status = async () => (await gateway.get(`/subscriptions/${name}`).expect(200)).body
    const { state, last_error } = await eventually(async () => {
      const now = await status()
      assert.match(JSON.stringify(now.last_error), /each ended their connection/)
      return now
    }, 15_000)
    assert.equal(state, 'failing', JSON.stringify(last_error))
    assert.deepEqual([...new Set(receiver.bodies())], ['1', '2', '3'])
  })

  it('a stream ends over a message that RabbitMQ cannot deliver, and is refused while its queue is quarantined', async () => {
    const queue = await freshQueue(gateway)
    const url = `${gateway.url}/queues/${queue}/stream`
    const stream = await openStream(url)
    await publish(queue, 'good')
    await stream.until(1)
    await publishOverAmqp10(AMQP_URL, queue, 'poison', UNDELIVERABLE)
    await stream.ended
    assert.match(stream.events().at(-1)?.data ?? '', /broker_unavailable/)
    await ready()
    const refused = await eventually(async () => {
      const answer = await fetch(url)
      await answer.body?.cancel()
      assert.equal(answer.status, 503)
      return answer
    }, 15_000)
    assert.ok(Number(refused.headers.get('retry-after')) > 0)
  })
})
