// Whatever happens between a gateway and its broker: every request is answered in time, readiness tells the truth, nothing
// that was confirmed is lost, and it heals by itself.

import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { proxied } from '../support/proxy.js'
import { openStream } from '../support/stream.js'

const { proxy, url } = await proxied(AMQP_URL)
const HEARTBEAT = 1000
const gateway = await startGateway({ AMQP_URL: url, AMQP_HEARTBEAT: '1s', PUBLISH_TIMEOUT: '3s', BROKER_TIMEOUT: '2s' })
// One that nothing happens to, to look at the broker with.
const witness = await startGateway()

const count = async (queue: string): Promise<number> => (await witness.get(`/queues/${queue}`)).body.message_count
const healed = (one: Gateway = gateway) =>
  eventually(() => assert.equal(one.app.services.notReady(), undefined, one.app.services.notReady()), 30_000)
const publish = (queue: string, text: string, one: Gateway = gateway) =>
  one.post(`/queues/${queue}/messages`).type('text/plain').send(text)
const lease = async (queue: string, one: Gateway = gateway) =>
  (await one.get(`/queues/${queue}/messages?lease=10m&wait=5s`).expect(200)).body.messages[0].lease.id as string

/** Every kind of request there is, each with what it may be answered while the broker is out of reach. */
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

afterEach(async () => {
  proxy.thaw()
  await healed()
})

describe('a connection', () => {
  for (const [how, end] of [
    ['reset', () => proxy.reset()],
    ['finished', () => proxy.finish()],
  ] as const) {
    it(`that is ${how} ends its leases, gives their messages back, and is replaced`, async () => {
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

  it('that is frozen is known within three heartbeats, answers everything in time, and is given up', {
    timeout: 90_000,
  }, async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'kept').expect(201)
    const id = await lease(queue)
    proxy.freeze()
    const from = Date.now()
    const working = everythingAnswers(queue, id)
    await eventually(() => assert.ok(gateway.app.services.notReady()), 3 * HEARTBEAT + 1500)
    assert.ok(Date.now() - from < 3 * HEARTBEAT + 1500)
    await working
    // A second round finds a broker that is known to be away: at once.
    await everythingAnswers(queue, id)
    proxy.thaw()
    await healed()
    await publish(queue, 'again').expect(201)
    await eventually(async () => assert.equal(await count(queue), 2), 20_000)
  })

  it('that is frozen in the middle of publishes calls none of them failed', { timeout: 60_000 }, async () => {
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
      else if (code !== 'publish_outcome_unknown') assert.ok(!stored.has(`m${n}`), `m${n} was called not stored: ${code}`)
    }
  })

  it('that is slow slows, and loses nothing', { timeout: 60_000 }, async () => {
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

  it('that the operator closes is made again', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'kept').expect(201)
    const id = await lease(queue)
    // The broker's list of them lags: wait until it has all that two gateways open.
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

  it('that is refused at the start is tried again until it stands', async () => {
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

describe('a queue that is deleted', () => {
  it('ends the leases of its messages, and the settles of others go on', async () => {
    const [queue, other] = [await freshQueue(gateway), await freshQueue(gateway)]
    await publish(queue, 'x').expect(201)
    await publish(other, 'y').expect(201)
    const [lost, kept] = [await lease(queue), await lease(other)]
    await witness.delete(`/queues/${queue}`).expect(204)
    // The gateway can't know of it; what it is told of the lease is not that the message is done.
    const { status } = await gateway.post(`/leases/${lost}/ack`)
    assert.ok(status === 204 || status === 410, String(status))
    await gateway.post(`/leases/${kept}/ack`).expect(204)
    assert.equal(await count(other), 0)
  })
})

describe('a user that is deleted', () => {
  it('takes its connections along; the gateway says so, and heals when the user is back', { timeout: 60_000 }, async () => {
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
    await eventually(() => assert.match(other.app.services.notReady() ?? '', /credentials|down|connecting/), 20_000)
    assert.equal((await publish(queue, 'x', other)).status, 503)
    assert.notEqual((await other.post(`/leases/${id}/ack`)).status, 204)
    assert.equal(await count(queue), 1)
    await add()
    await healed(other)
    await publish(queue, 'again', other).expect(201)
    await management(`users/${name}`, { method: 'DELETE' })
  })
})

describe('a client that stops reading', () => {
  it('keeps what it was sent from nobody for longer than its lease', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    const messages = Array.from({ length: 20 }, () => ({ payload: 'x'.repeat(500_000) }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    const stream = await openStream(`${gateway.url}/queues/${queue}/stream?prefetch=20&lease=2s`)
    stream.response.pause()
    const got = new Set<string>()
    await eventually(async () => {
      const { body } = await witness.get(`/queues/${queue}/messages?ack=manual&max=20&wait=1s`).expect(200)
      for (const { lease, properties } of body.messages) {
        await witness.post(`/leases/${lease.id}/ack`).expect(204)
        got.add(properties.message_id)
      }
      assert.equal(got.size, 20)
    }, 40_000)
    stream.leave()
  })
})
