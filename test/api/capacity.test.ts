// What an instance holds at most: each bound is a setting, refuses politely what is beyond it, and shows on /metrics.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { proxied } from '../support/proxy.js'
import { openStream } from '../support/stream.js'

const witness = await startGateway()

async function metric(gateway: Gateway, name: string): Promise<number> {
  const { text } = await gateway.get('/metrics').expect(200)
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
}

/** A 4xx or 503 that says when to come again. */
async function refused(request: ReturnType<Gateway['get']>, status: number, code: string): Promise<void> {
  const { body, headers } = await request.expect(status)
  assert.equal(body.code, code)
  assert.equal(body.retryable, true)
  assert.ok(Number(headers['retry-after']) > 0)
}

async function filled(count: number): Promise<string> {
  const queue = await freshQueue(witness)
  const messages = Array.from({ length: count }, (_, n) => ({ payload: n }))
  if (count > 0) await witness.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  return queue
}
const left = async (queue: string): Promise<number> => (await witness.get(`/queues/${queue}`).expect(200)).body.message_count

describe('open leases', () => {
  it('are MAX_LEASES at most: more are refused until some are settled', async () => {
    const gateway = await startGateway({ MAX_LEASES: '3' })
    const queue = await filled(5)
    const { body } = await gateway.get(`/queues/${queue}/messages?max=2&wait=5s`).expect(200)
    assert.equal(await metric(gateway, 'gateway_leases_open'), 2)
    await refused(gateway.get(`/queues/${queue}/messages?max=2`), 429, 'too_many_leases')
    await refused(gateway.get(`/queues/${queue}/stream?prefetch=2`), 429, 'too_many_leases')
    await gateway.get(`/queues/${queue}/messages?max=1000&ack=requeue`).expect(200)
    await gateway.post(`/leases/${body.messages[0].lease.id}/ack`).expect(204)
    assert.equal((await gateway.get(`/queues/${queue}/messages?max=2`).expect(200)).body.messages.length, 2)
    assert.equal(await metric(gateway, 'gateway_leases_open'), 3)
  })

  it('are no more where many wait for them at the same time: what is beyond goes back', async () => {
    const gateway = await startGateway({ MAX_LEASES: '2' })
    const queue = await filled(0)
    const polls = [1, 2, 3].map(() => gateway.get(`/queues/${queue}/messages?max=1&wait=20s`).then((response) => response))
    await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 3))
    const messages = [1, 2, 3].map((payload) => ({ payload }))
    await witness.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    const answers = (await Promise.all(polls)).map(({ status, body }) => body.code ?? status)
    assert.deepEqual(answers.sort(), [200, 200, 'too_many_leases'])
    assert.equal(await metric(gateway, 'gateway_leases_open'), 2)
    await eventually(async () => assert.equal(await left(queue), 1))
  })
})

describe('waiting receives', () => {
  it('are MAX_WAITERS at most; who does not wait is served', async () => {
    const gateway = await startGateway({ MAX_WAITERS: '2' })
    const queue = await filled(0)
    const polls = [1, 2].map(() => gateway.get(`/queues/${queue}/messages?wait=20s`).then((response) => response))
    await eventually(async () => assert.equal(await metric(gateway, 'gateway_receives_waiting'), 2))
    await refused(gateway.get(`/queues/${queue}/messages?wait=1s`), 429, 'too_many_waiters')
    assert.deepEqual((await gateway.get(`/queues/${queue}/messages`).expect(200)).body.messages, [])
    for (const payload of [1, 2]) await witness.post(`/queues/${queue}/messages`).type('text/plain').send(String(payload))
    for (const { status } of await Promise.all(polls)) assert.equal(status, 200)
    assert.equal(await metric(gateway, 'gateway_receives_waiting'), 0)
  })
})

describe('streams', () => {
  it('are MAX_STREAMS at most', async () => {
    const gateway = await startGateway({ MAX_STREAMS: '1' })
    const queue = await filled(0)
    const stream = await openStream(`${gateway.url}/queues/${queue}/stream`)
    assert.equal(await metric(gateway, 'gateway_streams_open'), 1)
    await refused(gateway.get(`/queues/${queue}/stream`), 429, 'too_many_waiters')
    stream.leave()
    await eventually(async () => assert.equal(await metric(gateway, 'gateway_streams_open'), 0))
  })
})

describe('channels of a connection', () => {
  // One may be taken by what the gateway itself reads.
  const FEW = { AMQP_LEASE_CONNECTIONS: '1', AMQP_CHANNELS: '3' }

  it('are AMQP_CHANNELS at most, for those who wait', async () => {
    const gateway = await startGateway(FEW)
    const queue = await filled(0)
    const polls = [1, 2, 3].map(() => gateway.get(`/queues/${queue}/messages?wait=20s&ack=auto`).then((response) => response))
    await eventually(async () => assert.equal(await metric(gateway, 'gateway_broker_channels'), 3))
    await refused(gateway.get(`/queues/${queue}/messages`), 429, 'too_many_waiters')
    for (const payload of [1, 2, 3]) await witness.post(`/queues/${queue}/messages`).type('text/plain').send(String(payload))
    const answers = (await Promise.all(polls)).map(({ status, body }) => body.code ?? status)
    assert.ok(answers.filter((answer) => answer === 200).length >= 2, String(answers))
    assert.ok(
      answers.every((answer) => answer === 200 || answer === 'too_many_waiters'),
      String(answers),
    )
    await eventually(async () => gateway.get(`/queues/${queue}/messages`).expect(200))
  })

  it('and for those who hold leases, which settle all the same', async () => {
    const gateway = await startGateway(FEW)
    const queue = await filled(5)
    const leases: string[] = []
    for (let n = 0; n < 3; n++) {
      const { status, body } = await gateway.get(`/queues/${queue}/messages?wait=5s`)
      if (status === 200) leases.push(body.messages[0].lease.id)
    }
    assert.ok(leases.length >= 2)
    await eventually(() => refused(gateway.get(`/queues/${queue}/messages?ack=requeue`), 429, 'too_many_leases'))
    await gateway.post(`/leases/${leases[0]}/ack`).expect(204)
    await eventually(async () => gateway.get(`/queues/${queue}/messages`).expect(200))
  })
})

describe('bytes on their way to RabbitMQ', () => {
  it('are PUBLISH_BUFFER at most: what is beyond is not stored, and what was on its way is', { timeout: 60_000 }, async () => {
    const { proxy, url } = await proxied(AMQP_URL)
    const gateway = await startGateway({ AMQP_URL: url, PUBLISH_BUFFER: '1MiB', PUBLISH_TIMEOUT: '1m', AMQP_HEARTBEAT: '1m' })
    const queue = await filled(0)
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
    assert.equal(await left(queue), 2)
    await publish().expect(201)
  })
})

describe('remembered settles', () => {
  it('are MAX_REMEMBERED_SETTLES at most: the oldest are forgotten, and are over like any other', async () => {
    const gateway = await startGateway({ MAX_REMEMBERED_SETTLES: '2' })
    const queue = await filled(3)
    const { body } = await gateway.get(`/queues/${queue}/messages?max=3&wait=5s`).expect(200)
    const ids: string[] = body.messages.map(({ lease }: { lease: { id: string } }) => lease.id)
    for (const id of ids) await gateway.post(`/leases/${id}/ack`).expect(204)
    assert.equal(await metric(gateway, 'gateway_settles_remembered'), 2)
    assert.equal((await gateway.post(`/leases/${ids[0]}/ack`).expect(410)).body.code, 'lease_gone')
    for (const id of ids.slice(1)) await gateway.post(`/leases/${id}/ack`).expect(204)
  })
})
