// Why messages were given back: kept on copies, shown in JSON, and through dead letters.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { connect } from '../../src/amqp/wire/amqplib.js'
import { startReceiver } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

const vhost = await freshVhost('failures')
const gateway = await startGateway({ ...vhost.env, PUSH_ALLOWED_NETWORKS: '127.0.0.0/8' })
deleteWith(gateway, vhost)

interface Message {
  lease: { id: string }
  failures?: { reason: string; time: string; by: string }[]
  properties: { headers?: object }
}

const receive = async (queue: string, query = ''): Promise<Message> => {
  const { messages } = (await gateway.post(`/queues/${queue}/messages/receive?wait=10s${query}`).expect(200)).body
  assert.equal(messages.length, 1)
  return messages[0]
}
const nack = (message: Message, body: object) => gateway.post(`/leases/${message.lease.id}/nack`).send(body)
const reasons = ({ failures }: Message) => failures?.map(({ by, reason }) => `${by}: ${reason}`)

describe('failures', () => {
  it('the reasons of nacks with a delay come back with the message, the latest last', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    const first = await receive(queue)
    assert.equal(first.failures, undefined)
    const before = Date.now()
    await nack(first, { delay: '100ms', reason: 'no connection' }).expect(204)
    const second = await receive(queue)
    assert.deepEqual(reasons(second), ['nack: no connection'])
    const time = Date.parse(second.failures![0]!.time)
    assert.ok(time >= before - 50 && time <= Date.now() + 50, second.failures![0]!.time)
    assert.equal(second.properties.headers, undefined)
    await nack(second, { delay: '100ms' }).expect(204)
    const third = await receive(queue)
    assert.deepEqual(reasons(third), ['nack: no connection'])
    const body = { nack: [{ id: third.lease.id, delay: '100ms', reason: 'größe\n"x"' }] }
    assert.equal((await gateway.post('/leases/settle').send(body).expect(200)).body.settled, 1)
    assert.deepEqual(reasons(await receive(queue, '&ack=auto')), ['nack: no connection', 'nack: größe\n"x"'])
  })

  it('a message keeps its last ten failures, and AMQP consumers read them as JSON', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    for (let n = 0; n < 12; n++) await nack(await receive(queue), { delay: '100ms', reason: `try ${n}` }).expect(204)
    // RabbitMQ itself shows what AMQP consumers get.
    const path = `queues/${encodeURIComponent(vhost.name)}/${queue}/get`
    const body = JSON.stringify({ count: 1, ackmode: 'ack_requeue_true', encoding: 'auto' })
    const headers = await eventually(async () => {
      const [message] = await management<{ properties: { headers: Record<string, string> } }[]>(path, { method: 'POST', body })
      assert.ok(message)
      return message.properties.headers
    })
    const failures = JSON.parse(headers['x-gateway-failures']!) as { reason: string }[]
    assert.deepEqual(
      failures.map(({ reason }) => reason),
      Array.from({ length: 10 }, (_, n) => `try ${n + 2}`),
    )
  })

  it('a retry policy keeps reasons and expired leases, and the dead letter has those of its earlier deliveries', async () => {
    const queue = await freshQueue(gateway, { dead_letter: true })
    gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
    const policy = { max_deliveries: 3, backoff: { initial: '100ms', factor: 1 } }
    await gateway.put(`/queues/${queue}/retry-policy`).send(policy).expect(201)
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    await nack(await receive(queue), { reason: 'not today' }).expect(204)
    await receive(queue, '&lease=1s')
    const third = await receive(queue)
    const expected = ['nack: not today', 'lease_expired: The lease ran out.']
    assert.deepEqual(reasons(third), expected)
    await nack(third, { reason: 'never' }).expect(204)
    assert.deepEqual(reasons(await receive(`${queue}.dead`)), expected)
  })

  it('a failed delivery of a subscription says what the endpoint answered', async () => {
    const queue = await freshQueue(gateway, { dead_letter: true })
    gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
    const endpoint = await startReceiver(507)
    const name = freshName('failures')
    const retry = { max_attempts: 2, backoff: { initial: '100ms' } }
    await gateway.put(`/subscriptions/${name}`).send({ queue, url: endpoint.url, retry, give_up: 'dead_letter' }).expect(201)
    gateway.cleanups.push(async () => gateway.delete(`/subscriptions/${name}`))
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    const dead = await receive(`${queue}.dead`, '')
    assert.deepEqual(reasons(dead), ['push: it answered 507'])
  })

  it('failures that other clients write are not shown', async () => {
    const queue = await freshQueue(gateway)
    const connection = await connect(vhost.env.AMQP_URL)
    const channel = await connection.createConfirmChannel()
    const failures = JSON.stringify([{ reason: 'forged', time: new Date().toISOString(), by: 'nack' }])
    for (const headers of [
      { 'x-gateway-failures': failures },
      { 'x-gateway-queue': queue, 'x-gateway-failures': '{}' },
      { 'x-gateway-queue': queue, 'x-gateway-failures': failures.replace('nack', 'nobody') },
    ])
      channel.sendToQueue(queue, Buffer.from('x'), { headers })
    await channel.waitForConfirms()
    await connection.close()
    for (let n = 0; n < 3; n++) assert.equal((await receive(queue, '&ack=auto')).failures, undefined)
  })

  it('a reason of more than 1 KiB, or that is no text, is refused', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('job').expect(201)
    const message = await receive(queue)
    for (const reason of ['x'.repeat(1025), 'ä'.repeat(513), 7, null]) await nack(message, { reason }).expect(400)
    await nack(message, { reason: 'ä'.repeat(512), requeue: false }).expect(204)
  })
})
