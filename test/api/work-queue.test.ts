// The work queue of RabbitMQ's tutorials, over HTTP.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const receive = async (queue: string, query = '') =>
  (await gateway.get(`/queues/${queue}/messages${query}`).expect(200)).body.messages
const publish = (queue: string, text: string) =>
  gateway.post(`/queues/${queue}/messages`).type('text/plain').send(text).expect(201)
const count = async (queue: string) => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

describe('work queues', () => {
  it('a queue is declared, published to and received from', async () => {
    const queue = freshName('hello')
    await gateway.put(`/queues/${queue}`).expect(201)
    await gateway.put(`/queues/${queue}`).expect(200)
    const { body } = await publish(queue, 'Hello World!')
    assert.equal(body.routed, true)
    const [message] = await receive(queue)
    assert.equal(message.payload, 'Hello World!')
    assert.equal(message.payload_encoding, 'string')
    assert.equal(message.routing_key, queue)
    assert.equal(message.properties.message_id, body.message_id)
    assert.equal(message.redelivered, false)
    await gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
    await gateway.delete(`/queues/${queue}`).expect(204)
  })

  it('each of four waiting workers receives one of four messages, in every round', async () => {
    const queue = await freshQueue(gateway)
    for (let round = 0; round < 20; round++) {
      const workers = Array.from({ length: 4 }, async () => {
        const messages = await receive(queue, '?wait=20s')
        for (const { lease } of messages) await gateway.post(`/leases/${lease.id}/ack`).expect(204)
        return messages.map(({ payload }: { payload: string }) => payload)
      })
      await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 4))
      const tasks = ['a', 'b', 'c', 'd'].map((letter) => `task ${round}${letter}`)
      for (const task of tasks) await publish(queue, task)
      const received = await Promise.all(workers)
      for (const payloads of received) assert.equal(payloads.length, 1)
      assert.deepEqual(received.flat().sort(), tasks)
    }
  })

  it('the message of an expired lease is redelivered to another worker, not earlier', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'task')
    const [first] = await receive(queue, '?lease=1s')
    const [again] = await receive(queue, '?wait=20s')
    assert.ok(Date.now() >= Date.parse(first.lease.expires_at))
    assert.equal(again.payload, 'task')
    assert.equal(again.redelivered, true)
    const late = await gateway.post(`/leases/${first.lease.id}/ack`).expect(410)
    assert.equal(late.body.code, 'lease_gone')
    await gateway.post(`/leases/${again.lease.id}/ack`).expect(204)
    await eventually(async () => assert.equal(await count(queue), 0))
  })

  it('quorum queues have a delivery count and classic queues do not', async () => {
    const quorum = await freshQueue(gateway, { type: 'quorum' })
    await publish(quorum, 'task')
    const [first] = await receive(quorum, '?wait=2s')
    assert.equal(first.delivery_count, 1)
    await gateway.post(`/leases/${first.lease.id}/nack`).expect(204)
    const [second] = await receive(quorum, '?wait=2s')
    assert.equal(second.delivery_count, 2)

    const classic = await freshQueue(gateway, { type: 'classic' })
    await publish(classic, 'task')
    const [only] = await receive(classic)
    assert.equal('delivery_count' in only, false)
  })
})
