// Retry policies: how long a nacked or expired message waits, and what happens after its last delivery.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import supertest from 'supertest'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { freshVhost } from '../support/vhost.js'

const gateway = await startGateway()
const other = await startGateway()

interface Message {
  payload: unknown
  delivery_count?: number
  redelivered: boolean
  properties: { headers?: Record<string, unknown> }
  deaths?: { queue: string; reason: string }[]
  lease: { id: string }
}

async function next(queue: string, { from = gateway, lease = '30s' } = {}): Promise<{ message: Message; at: number }> {
  for (;;) {
    const { messages } = (await from.get(`/queues/${queue}/messages?wait=20s&lease=${lease}`).expect(200)).body
    if (messages.length > 0) return { message: messages[0], at: Date.now() }
  }
}
const nack = (message: Message, at = gateway, body: object = {}) =>
  at.post(`/leases/${message.lease.id}/nack`).send(body).expect(204)
const ack = (message: Message) => gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
const count = async (queue: string) => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

/** A queue with a retry policy, known at both instances. The policy is deleted after the tests. */
async function queueWithPolicy(policy: object, declaration: object = { dead_letter: true }): Promise<string> {
  const queue = await freshQueue(gateway, declaration)
  await gateway.put(`/queues/${queue}/retry-policy`).send(policy).expect(201)
  gateway.cleanups.unshift(async () => supertest(gateway.url).delete(`/queues/${queue}/retry-policy`))
  gateway.cleanups.push(async () => supertest(gateway.url).delete(`/queues/${queue}.dead`))
  await eventually(() => other.get(`/queues/${queue}/retry-policy`).expect(200))
  return queue
}

const QUICK = { initial: '200ms', factor: 2, max: '10m', jitter: 0 }

for (const type of ['classic', 'quorum']) {
  describe(`a ${type} queue with a retry policy`, () => {
    const declaration = { type, dead_letter: true }

    it(`a nacked message returns to its ${type} queue after growing delays, and is dead-lettered at the end`, async () => {
      const queue = await queueWithPolicy({ max_deliveries: 4, backoff: QUICK, then: 'dead_letter' }, declaration)
      await gateway.post(`/queues/${queue}/messages`).set('amqp-header-x', 'y').send('job').expect(201)
      let { message } = await next(queue)
      for (const [n, wait] of [200, 400, 800].entries()) {
        const from = Date.now()
        await nack(message, n === 1 ? other : gateway)
        // A repeated nack gets the same response, at every instance.
        await nack(message, other)
        await other.post(`/leases/${message.lease.id}/ack`).expect(409)
        const returned = await next(queue)
        assert.ok(returned.at - from >= wait, `early: ${returned.at - from} of ${wait} ms`)
        ;({ message } = returned)
        assert.equal(message.delivery_count, n + 2)
        assert.equal(message.properties.headers?.['x'], 'y')
      }
      await nack(message)
      const dead = (await next(`${queue}.dead`)).message
      assert.equal(dead.payload, 'job')
      assert.deepEqual([dead.deaths?.[0]?.queue, dead.deaths?.[0]?.reason], [queue, 'rejected'])
      // The gateway does not carry its count to another queue; RabbitMQ 4.0 itself continues from its last delivery.
      assert.ok((dead.delivery_count ?? 1) <= 2, `${dead.delivery_count}`)
      await ack(dead)
      assert.equal(await count(queue), 0)
    })

    it(`the message of an expired lease follows the retry policy of its ${type} queue`, async () => {
      const queue = await queueWithPolicy({ max_deliveries: 2, backoff: { ...QUICK, initial: '700ms' } }, declaration)
      await gateway.post(`/queues/${queue}/messages`).send('slow').expect(201)
      const first = await next(queue, { lease: '1s' })
      const second = await next(queue, { lease: '1s' })
      assert.ok(second.at - first.at >= 1000 + 700 - 100, `early: ${second.at - first.at} ms`)
      assert.equal(second.message.delivery_count, 2)
      await gateway.post(`/leases/${first.message.lease.id}/ack`).expect(410)
      const dead = (await next(`${queue}.dead`)).message
      assert.equal(dead.payload, 'slow')
      await ack(dead)
    })
  })
}

describe('retry policies', () => {
  it('then: discard drops a message after its last delivery', async () => {
    const queue = await queueWithPolicy({ max_deliveries: 1, then: 'discard' })
    await gateway.post(`/queues/${queue}/messages`).send('once').expect(201)
    await nack((await next(queue)).message)
    await eventually(async () => assert.deepEqual([await count(queue), await count(`${queue}.dead`)], [0, 0]))
  })

  it('an explicit delay and requeue: false override the retry policy', async () => {
    const queue = await queueWithPolicy({ max_deliveries: 1, backoff: { initial: '10m' } })
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    const { message } = await next(queue)
    await nack(message, gateway, { delay: '200ms' })
    const again = (await next(queue)).message
    assert.equal(again.delivery_count, 2)
    await nack(again, gateway, { requeue: false })
    await ack((await next(`${queue}.dead`)).message)
  })

  it('a bulk settle follows the retry policy', async () => {
    const queue = await queueWithPolicy({ max_deliveries: 3, backoff: QUICK })
    const messages = Array.from({ length: 20 }, (_, n) => ({ payload: n }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    const ids = async () => {
      const { body } = await gateway.get(`/queues/${queue}/messages?max=20&wait=10s`).expect(200)
      return (body.messages as Message[]).map(({ lease }) => lease.id)
    }
    let settled = 0
    while (settled < 40) {
      const nacks = (await ids()).map((id) => ({ id }))
      const { body } = await other.post('/leases/settle').send({ nack: nacks }).expect(200)
      assert.equal(body.failed, 0, JSON.stringify(body))
      settled += nacks.length
    }
    const seen = new Set<unknown>()
    while (seen.size < 20) {
      const { message } = await next(queue)
      assert.equal(message.delivery_count, 3)
      seen.add(message.payload)
      await ack(message)
    }
    assert.equal(await count(`${queue}.dead`), 0)
  })

  it('an instance that starts later has the retry policy', async () => {
    const queue = await queueWithPolicy({ max_deliveries: 7 })
    const later = await startGateway()
    const { body } = await eventually(() => later.get(`/queues/${queue}/retry-policy`).expect(200))
    assert.deepEqual(body, {
      queue,
      vhost: '/',
      max_deliveries: 7,
      backoff: { initial: '1s', factor: 2, max: '10m', jitter: 0.2 },
      then: 'dead_letter',
    })
    await later.close()
  })

  it('a retry policy can be replaced and deleted', async () => {
    const queue = await queueWithPolicy({ max_deliveries: 7 })
    const { body } = await gateway
      .put(`/queues/${queue}/retry-policy`)
      .send({ backoff: { initial: 30, factor: 1 } })
      .expect(200)
    assert.deepEqual(body, { queue, vhost: '/', backoff: { initial: '30s', factor: 1, max: '10m', jitter: 0.2 } })
    await gateway.delete(`/queues/${queue}/retry-policy`).expect(204)
    await gateway.delete(`/queues/${queue}/retry-policy`).expect(204)
    const gone = await gateway.get(`/queues/${queue}/retry-policy`).expect(404)
    assert.equal(gone.body.code, 'retry_policy_not_found')
    await eventually(() => other.get(`/queues/${queue}/retry-policy`).expect(404))
    await gateway.post(`/queues/${queue}/messages`).send('at once').expect(201)
    const from = Date.now()
    await nack((await next(queue)).message)
    assert.ok((await next(queue)).at - from < 10_000)
  })

  it('a retry policy applies to one vhost', async () => {
    const { name: vhost, delete: remove } = await freshVhost()
    gateway.cleanups.push(remove)
    const queue = await freshQueue(gateway)
    await gateway.put(`/vhosts/${vhost}/queues/${queue}`).expect(201)
    await gateway.put(`/vhosts/${vhost}/queues/${queue}/retry-policy`).send({ max_deliveries: 2 }).expect(201)
    await gateway.get(`/vhosts/${vhost}/queues/${queue}/retry-policy`).expect(200)
    await gateway.get(`/queues/${queue}/retry-policy`).expect(404)
    await gateway.delete(`/vhosts/${vhost}/queues/${queue}/retry-policy`).expect(204)
  })

  it('an invalid retry policy is refused with 400, names the member and changes nothing', async () => {
    const queue = await queueWithPolicy({ max_deliveries: 7 })
    for (const [policy, pointer] of [
      [{ max_deliveries: 0 }, '/body/max_deliveries'],
      [{ max_deliveries: 1.5 }, '/body/max_deliveries'],
      [{ max_deliveries: 3, then: 'nowhere' }, '/body/then'],
      [{ then: 'discard' }, '/body/then'],
      [{ max_deliveries: 3, backoff: { initial: '10s', max: '5s' } }, '/body/backoff/max'],
      [{ max_deliveries: 3, backoff: { initial: '-1s' } }, '/body/backoff/initial'],
      [{ max_deliveries: 3, backoff: { initial: '10ms' } }, '/body/backoff/initial'],
      [{ max_deliveries: 3, backoff: { max: '31d' } }, '/body/backoff/max'],
      [{ max_deliveries: 3, backoff: { factor: 0.5 } }, '/body/backoff/factor'],
      [{ max_deliveries: 3, backoff: { jitter: 2 } }, '/body/backoff/jitter'],
      [{ max_deliveries: 3, backof: {} }, '/body/backof'],
      [[], '/body'],
    ] as const) {
      const { body } = await gateway
        .put(`/queues/${queue}/retry-policy`)
        .send(policy as object)
        .expect(400)
      assert.equal(body.errors[0].pointer, pointer, JSON.stringify(body))
    }
    assert.equal((await gateway.get(`/queues/${queue}/retry-policy`)).body.max_deliveries, 7)
  })

  it('a retry policy for a missing queue or a stream is refused', async () => {
    const missing = await gateway.put(`/queues/${freshName()}/retry-policy`).send({ max_deliveries: 2 }).expect(404)
    assert.equal(missing.body.code, 'queue_not_found')
    const stream = await freshQueue(gateway, { type: 'stream' })
    const refused = await gateway.put(`/queues/${stream}/retry-policy`).send({ max_deliveries: 2 }).expect(409)
    assert.equal(refused.body.code, 'stream_queue')
  })

  it('the metrics count retries and retry policies', async () => {
    const text = async (from: Gateway) => (await supertest(from.url).get('/metrics')).text
    assert.match(await text(gateway), /gateway_retries_total\{outcome="again"\} [1-9]/)
    assert.match(await text(gateway), /gateway_retries_total\{outcome="rejected"\} [1-9]/)
    await eventually(async () => assert.match(await text(other), /gateway_retry_policies [1-9]/))
  })
})
