// Delayed messages and retry policies survive a restart of the gateway and the broker.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startBroker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { freshName, startGateway } from '../support/gateway.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-delay-'))
const broker = await startBroker({ dir })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})
const DELAY_MS = 15_000

describe('restart with delayed messages and retry policies', () => {
  it('delayed messages and retry policies survive a restart of the gateway and the broker', { timeout: 180_000 }, async () => {
    const first = await startGateway({ AMQP_URL: broker.url })
    const queues = { classic: freshName(), quorum: freshName() }
    for (const [type, queue] of Object.entries(queues)) {
      await first.put(`/queues/${queue}`).send({ type }).expect(201)
      await first.put(`/queues/${queue}/retry-policy`).send({ max_deliveries: 9 }).expect(201)
    }
    // The queues of the delays are declared with the first delayed message.
    for (const queue of Object.values(queues)) await first.post(`/queues/${queue}/messages`).send('now').expect(201)
    const due = new Map<string, number>()
    for (const queue of Object.values(queues)) {
      await first.post(`/queues/${queue}/messages?delay=${DELAY_MS}ms`).send('published').expect(201)
      const { body } = await first.get(`/queues/${queue}/messages?wait=5s`).expect(200)
      await first
        .post(`/leases/${body.messages[0].lease.id}/nack`)
        .send({ delay: `${DELAY_MS}ms` })
        .expect(204)
      due.set(queue, Date.now() + DELAY_MS)
    }
    await first.close()
    await broker.stop()
    await broker.start()
    const second = await startGateway({ AMQP_URL: broker.url })
    for (const queue of Object.values(queues)) {
      const received: string[] = []
      while (received.length < 2) {
        // A quorum queue may still elect its leader.
        const response = await eventually(() => second.get(`/queues/${queue}/messages?wait=30s&ack=auto`).expect(200), 60_000)
        for (const { payload } of response.body.messages) {
          assert.ok(Date.now() > due.get(queue)! - 1000, `${payload} arrived ${due.get(queue)! - Date.now()} ms early`)
          received.push(payload)
        }
      }
      assert.deepEqual(received.sort(), ['now', 'published'])
      assert.equal((await second.get(`/queues/${queue}/retry-policy`).expect(200)).body.max_deliveries, 9)
    }
  })
})
