// Faults between a gateway and its broker: every request has its response in time, readiness is correct, no confirmed message
// is lost, and the gateway recovers by itself.

import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { proxied } from '../support/proxy.js'
import { openStream } from '../support/stream.js'

const { proxy, url } = await proxied(AMQP_URL)
const HEARTBEAT_MS = 1000
const gateway = await startGateway({ AMQP_URL: url, AMQP_HEARTBEAT: '1s', PUBLISH_TIMEOUT: '3s', BROKER_TIMEOUT: '2s' })
// A gateway without faults, to check the state of the broker.
const witness = await startGateway()

const count = async (queue: string): Promise<number> => (await witness.get(`/queues/${queue}`)).body.message_count
const healed = (one: Gateway = gateway) =>
  eventually(() => assert.equal(one.app.services.notReady(), undefined, one.app.services.notReady()), 30_000)
const publish = (queue: string, text: string, one: Gateway = gateway) =>
  one.post(`/queues/${queue}/messages`).type('text/plain').send(text)
const lease = async (queue: string, one: Gateway = gateway) =>
  (await one.get(`/queues/${queue}/messages?lease=10m&wait=5s`).expect(200)).body.messages[0].lease.id as string

/** Sends every kind of request while the broker is unreachable, and expects a response that says so. */
async function everythingAnswers(queue: string, leaseId: string): Promise<void> {
  const from = Date.now()
  const answers = await Promise.all([
    publish(queue, 'x'),
    gateway.post(`/queues/${queue}/messages/batch`).send({ messages: [{ payload: 1 }] }),
    gateway.post('/exchanges/amq.topic/messages').type('text/plain').send('x'),
    gateway.get(`/queues/${queue}/messages?wait=1s`),
    gateway.get(`/queues/${queue}/stream`).timeout(20_000),
    gateway.post(`/queues/${queue}/rpc?timeout=2s`).type('text/plain').send('x'),
    gateway.post(`/leases/${leaseId}/ack`),
    gateway.put(`/queues/${queue}`),
    gateway.get(`/queues/${queue}`),
    gateway.delete(`/queues/${queue}/messages`),
    gateway.put('/exchanges/amq.topic').send({ type: 'topic' }),
    gateway.put(`/exchanges/amq.topic/bindings/queues/${queue}?routing_key=x`),
  ])
  for (const { status, text, headers } of answers) {
    assert.ok([503, 504, 410].includes(status), `${status} ${text}`)
    if (status === 503) assert.ok(headers['retry-after'], text)
  }
  assert.ok(Date.now() - from < 15_000, `${Date.now() - from} ms`)
}

// With heartbeats of a second, a busy machine may cost a connection before the test begins.
beforeEach(() => healed())

afterEach(async () => {
  proxy.thaw()
  await healed()
})

describe('broker connection', () => {
  for (const [how, end] of [
    ['RST', () => proxy.reset()],
    ['FIN', () => proxy.finish()],
  ] as const) {
    it(`after a ${how} a connection is replaced, and the messages of its leases return`, async () => {
      const queue = await freshQueue(gateway)
      await publish(queue, 'kept').expect(201)
      const id = await lease(queue)
      const other = await freshQueue(gateway)
      const poll = gateway.get(`/queues/${other}/messages?wait=30s`)
      const answered = poll.then((response) => response)
      await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 1))
      end()
      assert.equal((await answered).status, 503)
      await eventually(async () => assert.equal(await count(queue), 1))
      assert.equal((await gateway.post(`/leases/${id}/ack`)).body.code, 'lease_gone')
      await healed()
      assert.equal((await witness.post(`/leases/${id}/ack`)).body.code, 'lease_gone')
      const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto`).expect(200)
      assert.deepEqual([body.messages[0].payload, body.messages[0].redelivered], ['kept', true])
    })
  }

  it('a frozen connection is noticed within three heartbeats and closed, and every request has its response in time', {
    timeout: 90_000,
  }, async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'kept').expect(201)
    const id = await lease(queue)
    proxy.freeze()
    const working = everythingAnswers(queue, id)
    await eventually(() => assert.ok(gateway.app.services.notReady()), 3 * HEARTBEAT_MS + 1500)
    await working
    // In the second round the gateway knows that the broker is away.
    await everythingAnswers(queue, id)
    proxy.thaw()
    await healed()
    await publish(queue, 'again').expect(201)
    await eventually(async () => assert.equal(await count(queue), 2), 20_000)
  })

  it('a publish on a connection that freezes is never reported as not stored if it is stored', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    const answers = Array.from({ length: 200 }, (_, n) => publish(queue, `m${n}`).then((response) => response))
    await eventually(async () => assert.ok((await count(queue)) > 10))
    proxy.freeze()
    const statuses = (await Promise.all(answers)).map(({ status, body }, n) => ({ n, status, code: body.code }))
    proxy.thaw()
    await healed()
    const stored = new Set<string>()
    for (;;) {
      const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=1000&wait=1s`).expect(200)
      if (body.messages.length === 0) break
      for (const { payload } of body.messages) stored.add(payload)
    }
    for (const { n, status, code } of statuses) {
      if (status === 201) assert.ok(stored.has(`m${n}`), `m${n} was confirmed and is lost`)
      else if (code !== 'publish_outcome_unknown') assert.ok(!stored.has(`m${n}`), `m${n} is stored but was reported as ${code}`)
    }
  })

  it('a slow connection loses no confirmed message', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    proxy.slow(40_000)
    try {
      const results = await Promise.all(Array.from({ length: 20 }, () => publish(queue, 'x'.repeat(1000))))
      assert.ok(results.every(({ status }) => status === 201 || status === 504 || status === 503))
      const confirmed = results.filter(({ status }) => status === 201).length
      await eventually(async () => assert.ok((await count(queue)) >= confirmed))
    } finally {
      proxy.thaw()
    }
    await healed()
  })

  it('a connection that an administrator closes is replaced', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'kept').expect(201)
    const id = await lease(queue)
    // The broker's list lags: wait until it has all eight connections of the two gateways.
    const mine = await eventually(async () => {
      const all = await management<{ name: string; user_provided_name?: string }[]>('connections')
      const found = all.filter(({ user_provided_name }) => user_provided_name?.includes(`:${process.pid} `))
      assert.equal(found.length, 8)
      return found
    }, 20_000)
    await Promise.all(mine.map(({ name }) => management(`connections/${encodeURIComponent(name)}`, { method: 'DELETE' })))
    await eventually(async () => assert.equal((await gateway.post(`/leases/${id}/ack`)).body.code, 'lease_gone'))
    await healed()
    await healed(witness)
    await publish(queue, 'again').expect(201)
  })

  it('a gateway that is refused at its start tries again until it is connected', async () => {
    const { proxy: closed, url: refusing } = await proxied(AMQP_URL)
    closed.refuse()
    const late = startGateway({ AMQP_URL: refusing })
    await new Promise((resolve) => setTimeout(resolve, 500))
    assert.equal(closed.accepted, 0)
    await closed.accept()
    const queue = await freshQueue(await late)
    await publish(queue, 'x', await late).expect(201)
  })
})

describe('deleted queue', () => {
  it('a deleted queue does not disturb the settles of other queues', async () => {
    const [queue, other] = [await freshQueue(gateway), await freshQueue(gateway)]
    await publish(queue, 'x').expect(201)
    await publish(other, 'y').expect(201)
    const [lost, kept] = [await lease(queue), await lease(other)]
    await witness.delete(`/queues/${queue}`).expect(204)
    // The gateway may not have noticed the deletion yet.
    const { status } = await gateway.post(`/leases/${lost}/ack`)
    assert.ok(status === 204 || status === 410, String(status))
    await gateway.post(`/leases/${kept}/ack`).expect(204)
    assert.equal(await count(other), 0)
  })
})

describe('deleted RabbitMQ user', () => {
  it('a gateway whose user is deleted is not ready, and recovers when the user is added again', { timeout: 60_000 }, async () => {
    const name = freshName('user')
    const add = async () => {
      await management(`users/${name}`, { method: 'PUT', body: JSON.stringify({ password: 'secret', tags: '' }) })
      const everything = { configure: '.*', write: '.*', read: '.*' }
      await management(`permissions/%2F/${name}`, { method: 'PUT', body: JSON.stringify(everything) })
    }
    await add()
    const address = new URL(AMQP_URL)
    address.username = name
    address.password = 'secret'
    const other = await startGateway({ AMQP_URL: address.href })
    const queue = await freshQueue(other)
    await publish(queue, 'kept', other).expect(201)
    const id = await lease(queue, other)
    await management(`users/${name}`, { method: 'DELETE' })
    for (const connection of await management<{ name: string; user: string }[]>('connections')) {
      if (connection.user === name) {
        await management(`connections/${encodeURIComponent(connection.name)}`, { method: 'DELETE' }).catch(() => undefined)
      }
    }
    await eventually(() => {
      assert.ok(other.app.services.notReady())
      assert.equal(other.app.services.vhosts.default.publisher.connection.state, 'down')
    }, 20_000)
    assert.equal((await publish(queue, 'x', other)).status, 503)
    assert.notEqual((await other.post(`/leases/${id}/ack`)).status, 204)
    assert.equal(await count(queue), 1)
    await add()
    await healed(other)
    await publish(queue, 'again', other).expect(201)
    await management(`users/${name}`, { method: 'DELETE' })
  })
})

describe('client that stops reading', () => {
  it('messages sent to a client that does not read its stream return when their leases expire', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    const messages = Array.from({ length: 20 }, () => ({ payload: 'x'.repeat(500_000) }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    const stream = await openStream(`${gateway.url}/queues/${queue}/stream?prefetch=20&lease=2s`)
    stream.response.pause()
    const received = new Set<string>()
    await eventually(async () => {
      const { body } = await witness.get(`/queues/${queue}/messages?ack=manual&max=20&wait=1s`).expect(200)
      for (const { lease, properties } of body.messages) {
        await witness.post(`/leases/${lease.id}/ack`).expect(204)
        received.add(properties.message_id)
      }
      assert.equal(received.size, 20)
    }, 40_000)
    stream.leave()
  })
})
