// Effects of the broker's own rules: its consumer timeout, and messages with header types that break client libraries.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startBroker } from '../../scripts/broker.mjs'
import { consumerTimeout } from '../support/consumer-timeout.js'
import { eventually } from '../support/eventually.js'
import { EXOTIC_TAGS, publishExoticHeaders } from '../support/exotic-headers.js'
import { freshQueue, type Gateway, startGateway } from '../support/gateway.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-rules-'))
const broker = await startBroker({ dir, ...consumerTimeout(4) })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})
const publish = (gateway: Gateway, queue: string, text: string) =>
  gateway.post(`/queues/${queue}/messages`).type('text/plain').send(text).expect(201)
const take = async (gateway: Gateway, queue: string, query = '') =>
  (await gateway.get(`/queues/${queue}/messages?wait=10s${query}`).expect(200)).body.messages

describe('a queue that hangs', () => {
  it('a queue that RabbitMQ does not answer about is quarantined, harms no other, and works again when it answers', async () => {
    const gateway = await startGateway({ AMQP_URL: broker.url, BROKER_TIMEOUT: '500ms' })
    const [queue, other] = [await freshQueue(gateway, { type: 'classic' }), await freshQueue(gateway)]
    await publish(gateway, queue, 'kept')
    const name = `{resource, <<"/">>, queue, <<"${queue}">>}`
    const all = (call: string) =>
      broker.ctl('eval', `{ok, Q} = rabbit_amqqueue:lookup(${name}), sys:${call}(amqqueue:get_pid(Q)).`)
    await all('suspend')
    const receive = async () => (await gateway.get(`/queues/${queue}/messages`)).body.code
    assert.deepEqual([await receive(), await receive()], ['broker_timeout', 'broker_timeout'])
    await eventually(async () => assert.equal(await receive(), 'queue_quarantined'))
    assert.equal((await gateway.get(`/queues/${queue}/stream`).expect(503)).body.code, 'queue_quarantined')
    await publish(gateway, other, 'x')
    assert.equal((await take(gateway, other, '&ack=auto'))[0].payload, 'x')
    await all('resume')
    await eventually(async () => {
      const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto`).expect(200)
      assert.equal(body.messages[0].payload, 'kept')
    }, 10_000)
  })
})

describe('consumer timeout of the broker', () => {
  it('a consumer timeout that the gateway does not know ends the leases of one receive and nothing else', {
    timeout: 60_000,
  }, async () => {
    const gateway = await startGateway({ AMQP_URL: broker.url })
    const [queue, other] = [await freshQueue(gateway), await freshQueue(gateway)]
    await publish(gateway, queue, 'kept')
    await publish(gateway, other, 'short')
    const [late] = await take(gateway, queue, '&lease=10m')
    const connections = gateway.app.services.vhosts.default.leaseConnections.map(({ epoch }) => epoch)
    await eventually(async () => {
      assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 1)
    }, 20_000)
    assert.equal((await gateway.post(`/leases/${late.lease.id}/ack`).expect(410)).body.code, 'lease_gone')
    const [soon] = await take(gateway, other)
    await gateway.post(`/leases/${soon.lease.id}/ack`).expect(204)
    const [again] = await take(gateway, queue)
    assert.deepEqual([again.payload, again.redelivered], ['kept', true])
    await gateway.post(`/leases/${again.lease.id}/ack`).expect(204)
    assert.deepEqual(
      gateway.app.services.vhosts.default.leaseConnections.map(({ epoch }) => epoch),
      connections,
    )
  })

  it('with BROKER_CONSUMER_TIMEOUT a lease ends before the broker’s consumer timeout', { timeout: 60_000 }, async () => {
    const gateway = await startGateway({ AMQP_URL: broker.url, BROKER_CONSUMER_TIMEOUT: '4s' })
    const queue = await freshQueue(gateway)
    await publish(gateway, queue, 'x')
    await gateway.get(`/queues/${queue}/messages?lease=4s`).expect(400)
    const [message] = await take(gateway, queue, '&lease=1s')
    let extended = 0
    const from = Date.now()
    for (;;) {
      const sent = Date.now()
      const { status, body } = await gateway.post(`/leases/${message.lease.id}/extend`).send({ lease: '1s' })
      if (status !== 200) {
        assert.equal(body.code, 'max_lease_exceeded')
        break
      }
      extended++
      assert.ok(sent - from < 4000, 'the lease lasts longer than the broker allows')
      await sleep(100)
    }
    assert.ok(extended > 1)
    const [again] = await take(gateway, queue)
    assert.equal(again.redelivered, true)
    await gateway.post(`/leases/${again.lease.id}/ack`).expect(204)
  })
})

describe('messages with exotic header types', () => {
  it('a message whose header types break client libraries is received like any other and ends no lease', async () => {
    const gateway = await startGateway({ AMQP_URL: broker.url })
    const queue = await freshQueue(gateway)
    await publish(gateway, queue, 'before')
    const [held] = await take(gateway, queue)
    const tags = [...EXOTIC_TAGS]
    assert.deepEqual(
      await publishExoticHeaders(
        broker.url,
        queue,
        tags.map((tag) => ({ tag, body: tag })),
      ),
      tags,
    )
    const received = new Map<string, { odd: number; deep: { odd: number }[] }>()
    while (received.size < tags.length) {
      for (const { payload, properties } of await take(gateway, queue, '&ack=auto&max=100'))
        received.set(payload, properties.headers)
    }
    for (const tag of tags) {
      const headers = received.get(tag)
      assert.deepEqual([headers?.odd, headers?.deep[0]?.odd], [7, 7], tag)
    }
    await gateway.post(`/leases/${held.lease.id}/ack`).expect(204)
  })
})
