// RabbitMQ's limits: what passes is a 503 with RabbitMQ's reason, what is known beforehand is obeyed, and nobody else notices.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startBroker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { freshVhost } from '../support/vhost.js'

const put = (path: string, body: object) => management(path, { method: 'PUT', body: JSON.stringify(body) })
const remove = (path: string) => management(path, { method: 'DELETE' })
const setVhostLimit = (vhost: string, name: string, value: number) => put(`vhost-limits/${vhost}/${name}`, { value })

/** Adds a user with all rights in the default vhost. @returns an AMQP URL with its credentials */
async function freshUser(limits: Record<string, number>): Promise<{ name: string; url: string }> {
  const name = freshName('user')
  await put(`users/${name}`, { password: 'secret', tags: '' })
  await put(`permissions/%2F/${name}`, { configure: '.*', write: '.*', read: '.*' })
  for (const [limit, value] of Object.entries(limits)) await put(`user-limits/${name}/${limit}`, { value })
  after(() => remove(`users/${name}`))
  const url = new URL(AMQP_URL)
  url.username = name
  url.password = 'secret'
  return { name, url: url.href }
}

/** The statuses of responses, each with how often it came. */
function tally(responses: { status: number }[]): Record<number, number> {
  const counts: Record<number, number> = {}
  for (const { status } of responses) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

const lease = async (gateway: Gateway, queue: string): Promise<string> =>
  (await gateway.get(`/queues/${queue}/messages?lease=5m&wait=5s`).expect(200)).body.messages[0].lease.id

describe('connection limit', () => {
  it("a vhost's connection limit is a 503 with RabbitMQ's reason, and no delayed message is put away over it", async () => {
    const gateway = await startGateway({ VHOST_IDLE: '1s' })
    const { name, delete: end } = await freshVhost()
    const path = `/vhosts/${name}/queues/q`
    await gateway.put(path).expect(201)
    await gateway.post(`${path}/messages?delay=3s`).type('text/plain').send('precious').expect(201)
    await eventually(() => assert.equal(gateway.app.services.vhosts.all().length, 1)) // the vhost was idle, and is closed
    await setVhostLimit(name, 'max-connections', 0)
    const { status, body } = await gateway.post(`${path}/messages`).send('x')
    assert.deepEqual([status, body.code, body.retryable], [503, 'broker_unavailable', true])
    assert.match(body.detail, /connection limit \(0\) is reached/)
    await eventually(async () => {
      assert.match((await gateway.get('/metrics')).text, /messages_due_total\{outcome="postponed"\} [1-9]/)
    })
    await remove(`vhost-limits/${name}/max-connections`)
    await eventually(() => gateway.get(path).expect(200))
    const received = await gateway.get(`${path}/messages?ack=auto&wait=20s`).expect(200)
    assert.equal(received.body.messages[0]?.payload, 'precious')
    await end()
  })

  it("a user's connection limit is a 503 in RabbitMQ's words, and a reason not to be ready", async () => {
    const user = await freshUser({ 'max-connections': 0 })
    const gateway = await startGateway({ AMQP_URL: user.url }, { ready: false })
    await eventually(async () => {
      const { body } = await gateway.get('/health/ready').expect(503)
      assert.match(body.reason, /connection that publishes is down/) // strangers get to see no more
    })
    const { status, body } = await gateway.post('/queues/q/messages').send('x')
    assert.deepEqual([status, body.code], [503, 'broker_unavailable'])
    assert.match(body.detail, /user connection limit \(0\) is reached/)
  })

  it("a RabbitMQ user's connection limit is no refusal of their credentials, and no missing vhost", async () => {
    const user = await freshUser({ 'max-connections': 0 })
    const gateway = await startGateway({ AUTH: 'broker' })
    const { status, body } = await gateway.get('/queues/q').auth(user.name, 'secret')
    assert.deepEqual([status, body.code], [503, 'broker_unavailable'])
    assert.match(body.detail, /user connection limit \(0\) is reached/)
  })
})

describe('queue limit', () => {
  it("a vhost's queue limit is a 503 with RabbitMQ's reason", async () => {
    const { name, env, delete: end } = await freshVhost()
    const gateway = await startGateway(env)
    await setVhostLimit(name, 'max-queues', 0)
    const { status, body } = await gateway.put('/queues/one')
    assert.deepEqual([status, body.code], [503, 'broker_unavailable'])
    assert.match(body.detail, /queue limit in vhost '.*' \(0\) is reached/)
    await end()
  })
})

describe("a user's channel limit", () => {
  it('it costs receives one wave of 503 at most, and from then on those beyond it are 429 while leases live on', {
    timeout: 60_000,
  }, async () => {
    const user = await freshUser({ 'max-channels': 12 })
    const gateway = await startGateway({ AMQP_URL: user.url })
    const queues: string[] = []
    for (let n = 0; n < 20; n++) queues.push(await freshQueue(gateway))
    const receiveFromAll = () => Promise.all(queues.map((queue) => gateway.get(`/queues/${queue}/messages?wait=2s`)))
    const first = Object.keys(tally(await receiveFromAll()))
    assert.ok(first.includes('503') || first.includes('429'), `RabbitMQ has told nobody of the limit: ${first}`)
    await eventually(() => assert.equal(gateway.app.services.notReady(), undefined))
    const held = await freshQueue(gateway)
    await gateway.post(`/queues/${held}/messages`).send('job').expect(201)
    const id = await lease(gateway, held)
    for (let round = 0; round < 3; round++) {
      const responses = await receiveFromAll()
      const counts = tally(responses)
      assert.deepEqual(Object.keys(counts), ['200', '429'], JSON.stringify(responses.map(({ body }) => body)))
      assert.ok(counts[200]! >= 3, JSON.stringify(counts))
    }
    const looks = await Promise.all(queues.map((queue) => gateway.get(`/queues/${queue}`)))
    assert.deepEqual(tally(looks), { 200: 20 })
    await gateway.post(`/leases/${id}/ack`).expect(204)
  })
})

describe('limits that RabbitMQ announces', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-limits-'))
  const broker = await startBroker({ dir, config: 'channel_max = 8\nframe_max = 16384' })
  after(async () => {
    await broker.kill()
    rmSync(dir, { recursive: true, force: true })
  })
  const gateway = await startGateway({ AMQP_URL: broker.url })

  it('more exchanges than channels take turns, one after the other and all at once', async () => {
    const exchanges = Array.from({ length: 12 }, () => freshName('exchange'))
    for (const exchange of exchanges) await gateway.put(`/exchanges/${exchange}`).send({ type: 'fanout' }).expect(201)
    const publish = (exchange: string) => gateway.post(`/exchanges/${exchange}/messages`).send('x')
    for (let round = 0; round < 2; round++) for (const exchange of exchanges) await publish(exchange).expect(201)
    assert.deepEqual(tally(await Promise.all([...exchanges, ...exchanges].map(publish))), { 201: 24 })
  })

  it('calls to more exchanges than channels are answered, some with 429', async () => {
    const exchanges = Array.from({ length: 12 }, () => freshName('exchange'))
    await Promise.all(exchanges.map((exchange) => gateway.put(`/exchanges/${exchange}`).send({ type: 'fanout' }).expect(201)))
    const call = (exchange: string) => gateway.post(`/exchanges/${exchange}/rpc?timeout=2s`).send('x')
    const responses = await Promise.all(exchanges.map(call))
    assert.deepEqual([...new Set(responses.map(({ body }) => body.code))].sort(), ['too_many_waiters', 'unroutable'])
    for (const exchange of exchanges) assert.equal((await call(exchange)).body.code, 'unroutable')
  })

  it('more receives than channels are 429, and a lease lives on', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    const id = await lease(gateway, queue)
    const responses = await Promise.all(Array.from({ length: 25 }, () => gateway.get(`/queues/${queue}/messages?wait=1s`)))
    assert.deepEqual(Object.keys(tally(responses)), ['200', '429'])
    await gateway.post(`/leases/${id}/ack`).expect(204)
  })

  it('more declarations than channels wait for their turn', async () => {
    const responses = await Promise.all(Array.from({ length: 40 }, () => gateway.put(`/queues/${freshName()}`)))
    assert.deepEqual(tally(responses), { 201: 40 })
  })

  it('headers and arguments larger than a frame are a 400, and no connection ends over them', async () => {
    const queue = await freshQueue(gateway)
    const connections = () => gateway.app.services.vhosts.default.connections().map(({ connection }) => connection.model())
    const before = connections()
    const big = 'h'.repeat(16_500)
    const publish = () => gateway.post(`/queues/${queue}/messages`)
    const json = { payload: 1, properties: { headers: { big } } }
    for (const refused of [
      await publish().set('amqp-header-big', big).send('x'),
      await gateway.post(`/queues/${queue}/messages?delay=1s`).set('amqp-header-big', big).send('x'),
      await gateway.post(`/queues/${queue}/rpc?timeout=1s`).set('amqp-header-big', big).send('x'),
      await gateway.put(`/queues/${freshName()}`).send({ arguments: { 'x-dead-letter-routing-key': 'k', 'x-big': big } }),
    ]) {
      assert.equal(refused.status, 400, refused.text)
      assert.match(refused.body.detail, /frame_max is 16384/)
    }
    const batch = await gateway
      .post(`/queues/${queue}/messages/batch`)
      .send({ messages: [json, { payload: 2 }] })
      .expect(200)
    assert.deepEqual(
      batch.body.results.map(({ status }: { status: string }) => status),
      ['invalid', 'confirmed'],
      batch.text,
    )
    await publish().set('amqp-header-big', 'h'.repeat(15_000)).send('x').expect(201)
    assert.ok(connections().every((model, n) => model === before[n]))
  })
})
