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

describe('a work queue', () => {
  it('is declared, published to and received from', async () => {
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

  it('shares its messages evenly between workers that wait', async () => {
    const queue = await freshQueue(gateway)
    const shares = await Promise.all(
      Array.from({ length: 4 }, async () => {
        let mine = 0
        for (;;) {
          const [message] = await receive(queue, '?wait=5s')
          if (message?.payload === 'end') {
            await gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
            return mine
          }
          if (!message) return mine
          mine++
          await new Promise((resolve) => setTimeout(resolve, 5)) // the work
          await gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
        }
      }).concat(
        (async () => {
          for (let i = 0; i < 80; i++) await publish(queue, `task ${i}`)
          for (let i = 0; i < 4; i++) await publish(queue, 'end')
          return 0
        })(),
      ),
    )
    const workers = shares.slice(0, 4)
    assert.equal(
      workers.reduce((a, b) => a + b),
      80,
    )
    assert.ok(Math.min(...workers) >= 12, `shared ${workers.join(', ')}`)
  })

  it('gives a message whose worker never settles to another one, marked redelivered', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'task')
    const [first] = await receive(queue, '?lease=1s')
    assert.deepEqual(await receive(queue), [])
    const [again] = await receive(queue, '?wait=4s')
    assert.equal(again.payload, 'task')
    assert.equal(again.redelivered, true)
    const late = await gateway.post(`/leases/${first.lease.id}/ack`).expect(410)
    assert.equal(late.body.code, 'lease_gone')
    await gateway.post(`/leases/${again.lease.id}/ack`).expect(204)
    await eventually(async () => assert.equal(await count(queue), 0))
  })

  it('counts deliveries where the queue does', async () => {
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
