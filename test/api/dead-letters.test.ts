// Queues with a dead-letter queue, and the deaths that dead letters report.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const gateway = await startGateway()

async function queueWithDeadLetters(declaration: object): Promise<string> {
  const queue = await freshQueue(gateway, declaration)
  gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
  return queue
}
const send = (queue: string, headers: Record<string, string> = {}) =>
  gateway.post(`/queues/${queue}/messages`).set(headers).send('x').expect(201)

async function receive(queue: string) {
  const { messages } = (await gateway.get(`/queues/${queue}/messages?wait=5s`).expect(200)).body
  assert.equal(messages.length, 1)
  return messages[0]
}

describe('dead-letter queues', () => {
  for (const type of ['classic', 'quorum']) {
    it(`a ${type} queue with dead_letter gets a .dead queue, and its dead letters report their deaths`, async () => {
      const queue = await queueWithDeadLetters({ type, dead_letter: true })
      await gateway.put(`/queues/${queue}`).send({ type, dead_letter: true }).expect(200)
      const { type: deadType, durable } = await management<{ type: string; durable: boolean }>(`queues/%2F/${queue}.dead`)
      assert.deepEqual([deadType, durable], [type, true])

      await send(queue)
      const { lease, deaths } = await receive(queue)
      assert.equal(deaths, undefined)
      await gateway.post(`/leases/${lease.id}/nack`).send({ requeue: false }).expect(204)
      const dead = await receive(`${queue}.dead`)
      assert.equal(dead.payload, 'x')
      const [{ time, ...death }] = dead.deaths
      assert.deepEqual(death, { queue, exchange: '', routing_keys: [queue], reason: 'rejected', count: 1 })
      assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000)
      await gateway.post(`/leases/${dead.lease.id}/ack`).expect(204)
      await send(queue, { 'amqp-expiration': '1' })
      const expired = await receive(`${queue}.dead`)
      assert.deepEqual([expired.deaths[0].reason, expired.deaths[0].queue], ['expired', queue])
      await gateway.post(`/leases/${expired.lease.id}/ack`).expect(204)
    })
  }

  it('dead_letter uses an existing .dead queue', async () => {
    const name = freshName('queue')
    await gateway.put(`/queues/${name}.dead`).send({ type: 'quorum' }).expect(201)
    await gateway.put(`/queues/${name}`).send({ type: 'classic', dead_letter: true }).expect(201)
    for (const one of [name, `${name}.dead`]) await gateway.delete(`/queues/${one}`).expect(204)
  })

  it('contradictory or invalid uses of dead_letter are refused and declare nothing', async () => {
    for (const [name, body, pointer] of [
      [freshName(), { type: 'stream', dead_letter: true }, '/body/dead_letter'],
      [freshName(), { dead_letter: true, arguments: { 'x-dead-letter-exchange': '' } }, '/body/dead_letter'],
      [freshName(), { dead_letter: 'yes' }, '/body/dead_letter'],
      ['q'.repeat(251), { dead_letter: true }, '/path/queue'],
    ] as const) {
      const response = await gateway.put(`/queues/${name}`).send(body).expect(400)
      assert.equal(response.body.errors[0].pointer, pointer)
      await gateway.get(`/queues/${name}`).expect(404)
    }
  })

  it('dead_letter needs rights on both queues', async () => {
    const { client, gateway: own, admin } = await startWithKeys()
    const name = freshName('queue')
    const declare = (...rights: string[]) =>
      client(...rights)
        .put(`/queues/${name}`)
        .send({ dead_letter: true })
    await declare(`configure:%2F/${name}`, `read:%2F/${name}`, `write:%2F/${name}.dead`).expect(403)
    await declare(`configure:%2F/${name}*`, `read:%2F/${name}`).expect(403)
    await declare(`configure:%2F/${name}*`, `write:%2F/${name}.dead`).expect(403)
    await own.get(`/queues/${name}`).expect(401)
    await admin.get(`/queues/${name}.dead`).expect(404)
    await declare(`configure:%2F/${name}*`, `read:%2F/${name}`, `write:%2F/${name}.dead`).expect(201)
    for (const one of [name, `${name}.dead`]) await admin.delete(`/queues/${one}`).expect(204)
  })
})

describe('deaths of messages', () => {
  it('a message with an x-death header that is not in the format of RabbitMQ is refused', async () => {
    const queue = await freshQueue(gateway)
    const death = { queue: 'q', exchange: '', reason: 'expired', 'routing-keys': ['q'], count: 1 }
    for (const wrong of [
      'x',
      { a: 1 },
      null,
      [1],
      [null],
      [[1]],
      [{}],
      [death, 's'],
      [{ ...death, count: '1' }],
      [{ ...death, count: 1.5 }],
      [{ ...death, reason: 'r' }],
      [{ ...death, 'routing-keys': [1] }],
      [{ ...death, time: 1 }],
    ]) {
      const headers = { 'x-death': wrong }
      const raw = await gateway.post(`/queues/${queue}/messages`).set('amqp-headers', JSON.stringify(headers)).send('x')
      assert.deepEqual([raw.status, raw.body.errors?.[0]?.pointer], [400, '/header/amqp-headers/x-death'], raw.text)
      const messages = [{ payload: 1, properties: { headers } }]
      const { results } = (await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)).body
      assert.equal(results[0].status, 'invalid')
    }
  })

  it('a dead letter with its x-death header can be published again as it was received', async () => {
    const [queue, back] = [freshName('queue'), await freshQueue(gateway)]
    await gateway.put(`/queues/${queue}`).send({ dead_letter: true }).expect(201)
    for (const name of [queue, `${queue}.dead`]) gateway.cleanups.push(async () => gateway.delete(`/queues/${name}`))
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    await gateway
      .post(`/leases/${(await receive(queue)).lease.id}/nack`)
      .send({ requeue: false })
      .expect(204)
    const { payload, properties, deaths, lease } = await receive(`${queue}.dead`)
    await gateway.post(`/leases/${lease.id}/ack`).expect(204)
    await gateway
      .post(`/queues/${back}/messages/batch`)
      .send({ messages: [{ payload, properties }] })
      .expect(200)
    const again = await receive(back)
    assert.deepEqual([again.deaths, again.properties], [deaths, properties])
    await gateway.post(`/leases/${again.lease.id}/ack`).expect(204)
  })
})
