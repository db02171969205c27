// Full instances: each bound on leases, waiting receives, streams, channels, bytes and connections is a setting, refuses what
// exceeds it with a problem that can be retried, and has a metric.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { dial } from '../support/http.js'
import { proxied } from '../support/proxy.js'
import { openStream } from '../support/stream.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

const witness = await startGateway()

async function metric(gateway: Gateway, name: string): Promise<number> {
  const { text } = await gateway.get('/metrics').expect(200)
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
}

/** Expects a retryable problem with a Retry-After header. */
async function refused(request: ReturnType<Gateway['get']>, status: number, code: string): Promise<void> {
  const { body, headers } = await request.expect(status)
  assert.equal(body.code, code)
  assert.equal(body.retryable, true)
  assert.ok(Number(headers['retry-after']) > 0)
}

async function queueWith(count: number): Promise<string> {
  const queue = await freshQueue(witness)
  const messages = Array.from({ length: count }, (_, n) => ({ payload: n }))
  if (count > 0) await witness.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  return queue
}
const countOf = async (queue: string): Promise<number> => (await witness.get(`/queues/${queue}`).expect(200)).body.message_count

describe('MAX_LEASES', () => {
  it('receives and streams beyond MAX_LEASES are refused until a lease is settled', async () => {
    const gateway = await startGateway({ MAX_LEASES: '3' })
    const queue = await queueWith(5)
    const { body } = await gateway.get(`/queues/${queue}/messages?max=2&wait=5s`).expect(200)
    assert.equal(await metric(gateway, 'gateway_leases_open'), 2)
    await refused(gateway.get(`/queues/${queue}/messages?max=2`), 429, 'too_many_leases')
    await refused(gateway.get(`/queues/${queue}/stream?prefetch=2`), 429, 'too_many_leases')
    await gateway.get(`/queues/${queue}/messages?max=1000&ack=requeue`).expect(200)
    await gateway.post(`/leases/${body.messages[0].lease.id}/ack`).expect(204)
    assert.equal((await gateway.get(`/queues/${queue}/messages?max=2`).expect(200)).body.messages.length, 2)
    assert.equal(await metric(gateway, 'gateway_leases_open'), 3)
  })

  it('waiting receives never open more than MAX_LEASES leases, and the excess messages go back to the queue', async () => {
    const gateway = await startGateway({ MAX_LEASES: '2' })
    const queue = await queueWith(0)
    const polls = [1, 2, 3].map(() => gateway.get(`/queues/${queue}/messages?max=1&wait=20s`).then((response) => response))
    await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 3))
    const messages = [1, 2, 3].map((payload) => ({ payload }))
    await witness.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    const answers = (await Promise.all(polls)).map(({ status, body }) => body.code ?? status)
    assert.deepEqual(answers.sort(), [200, 200, 'too_many_leases'])
    assert.equal(await metric(gateway, 'gateway_leases_open'), 2)
    await eventually(async () => assert.equal(await countOf(queue), 1))
  })
})

describe('MAX_WAITERS', () => {
  it('a waiting receive beyond MAX_WAITERS is refused, and a receive without wait is served', async () => {
    const gateway = await startGateway({ MAX_WAITERS: '2' })
    const queue = await queueWith(0)
    const polls = [1, 2].map(() => gateway.get(`/queues/${queue}/messages?wait=20s`).then((response) => response))
    await eventually(async () => assert.equal(await metric(gateway, 'gateway_receives_waiting'), 2))
    await refused(gateway.get(`/queues/${queue}/messages?wait=1s`), 429, 'too_many_waiters')
    assert.deepEqual((await gateway.get(`/queues/${queue}/messages`).expect(200)).body.messages, [])
    for (const payload of [1, 2]) await witness.post(`/queues/${queue}/messages`).type('text/plain').send(String(payload))
    for (const { status } of await Promise.all(polls)) assert.equal(status, 200)
    assert.equal(await metric(gateway, 'gateway_receives_waiting'), 0)
  })
})

describe('MAX_STREAMS', () => {
  it('a stream beyond MAX_STREAMS is refused', async () => {
    const gateway = await startGateway({ MAX_STREAMS: '1' })
    const queue = await queueWith(0)
    const stream = await openStream(`${gateway.url}/queues/${queue}/stream`)
    assert.equal(await metric(gateway, 'gateway_streams_open'), 1)
    await refused(gateway.get(`/queues/${queue}/stream`), 429, 'too_many_waiters')
    stream.leave()
    await eventually(async () => assert.equal(await metric(gateway, 'gateway_streams_open'), 0))
  })
})

describe('AMQP_CHANNELS', () => {
  /** A gateway with three channels, in a vhost without definitions and delayed messages, which take a channel each. */
  const startSmall = async (): Promise<Gateway> => {
    const vhost = await freshVhost('channels')
    const gateway = await startGateway({ ...vhost.env, AMQP_LEASE_CONNECTIONS: '1', AMQP_CHANNELS: '3' })
    deleteWith(gateway, vhost)
    return gateway
  }
  const add = (gateway: Gateway, queue: string, payload: string) =>
    gateway.post(`/queues/${queue}/messages`).type('text/plain').send(payload).expect(201)

  it('a receive is refused while waiting receives occupy all AMQP_CHANNELS', async () => {
    const gateway = await startSmall()
    const queue = await freshQueue(gateway)
    const polls = [1, 2, 3].map(() => gateway.get(`/queues/${queue}/messages?wait=20s&ack=auto`).then((response) => response))
    await eventually(async () => assert.equal(await metric(gateway, 'gateway_broker_channels'), 3))
    await refused(gateway.get(`/queues/${queue}/messages`), 429, 'too_many_waiters')
    for (const payload of ['1', '2', '3']) await add(gateway, queue, payload)
    assert.deepEqual(
      (await Promise.all(polls)).map(({ status }) => status),
      [200, 200, 200],
    )
    await eventually(async () => gateway.get(`/queues/${queue}/messages`).expect(200))
  })

  it('a receive is refused while leases occupy all AMQP_CHANNELS, and those leases can be settled', async () => {
    const gateway = await startSmall()
    const queue = await freshQueue(gateway)
    for (const payload of ['1', '2', '3', '4', '5']) await add(gateway, queue, payload)
    const leases: string[] = []
    for (let n = 0; n < 3; n++) {
      const { body } = await gateway.get(`/queues/${queue}/messages?wait=5s`).expect(200)
      leases.push(body.messages[0].lease.id)
    }
    await refused(gateway.get(`/queues/${queue}/messages?ack=requeue`), 429, 'too_many_leases')
    await gateway.post(`/leases/${leases[0]}/ack`).expect(204)
    await eventually(async () => gateway.get(`/queues/${queue}/messages`).expect(200))
  })
})

describe('PUBLISH_BUFFER', () => {
  it('a publish beyond PUBLISH_BUFFER is refused and not stored, and the publishes before it are confirmed', {
    timeout: 60_000,
  }, async () => {
    const { proxy, url } = await proxied(AMQP_URL)
    const gateway = await startGateway({ AMQP_URL: url, PUBLISH_BUFFER: '1MiB', PUBLISH_TIMEOUT: '1m', AMQP_HEARTBEAT: '1m' })
    const queue = await queueWith(0)
    const body = 'x'.repeat(700_000)
    const publish = () => gateway.post(`/queues/${queue}/messages`).type('text/plain').send(body)
    await publish().expect(201)
    proxy.freeze()
    const first = publish().then((response) => response)
    await eventually(() => assert.equal(gateway.app.services.vhosts.default.publisher.unconfirmedBytes, body.length))
    await refused(publish(), 503, 'overloaded')
    assert.match(
      await gateway.app.services.metrics.registry.getSingleMetricAsString('gateway_publish_bytes_unconfirmed'),
      / 700000$/,
    )
    proxy.thaw()
    assert.equal((await first).status, 201)
    assert.equal(await metric(gateway, 'gateway_publish_bytes_unconfirmed'), 0)
    assert.equal(await countOf(queue), 2)
    await publish().expect(201)
  })
})

describe('remembered settlements', () => {
  it('the oldest settled leases beyond the bound are forgotten and answered with lease_gone', async () => {
    const gateway = await startGateway({ MAX_REMEMBERED_SETTLES: '2' })
    const queue = await queueWith(3)
    const { body } = await gateway.get(`/queues/${queue}/messages?max=3&wait=5s`).expect(200)
    const ids: string[] = body.messages.map(({ lease }: { lease: { id: string } }) => lease.id)
    for (const id of ids) await gateway.post(`/leases/${id}/ack`).expect(204)
    assert.equal(await metric(gateway, 'gateway_settles_remembered'), 2)
    assert.equal((await gateway.post(`/leases/${ids[0]}/ack`).expect(410)).body.code, 'lease_gone')
    for (const id of ids.slice(1)) await gateway.post(`/leases/${id}/ack`).expect(204)
  })
})

describe('MAX_CONNECTIONS', () => {
  it('a connection beyond MAX_CONNECTIONS is closed at once', async () => {
    const gateway = await startGateway({ MAX_CONNECTIONS: '3' })
    const open = await Promise.all(Array.from({ length: 3 }, () => dial(gateway)))
    const { closed, received } = await dial(gateway)
    await closed
    assert.equal(received(), '')
    for (const { socket } of open) socket.destroy()
    await eventually(async () => gateway.get('/health/live').expect(200))
  })
})
