// A stream ends with the reason, whatever ends it, and its unsettled messages are not lost.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startBroker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { readyGateway } from '../support/process.js'
import { openStream, type Reader } from '../support/stream.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-streams-'))
const broker = await startBroker({ dir })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})
const gateway = await startGateway({ AMQP_URL: broker.url })
const NDJSON = { accept: 'application/x-ndjson' }

const publish = (queue: string, text: string) =>
  gateway.post(`/queues/${queue}/messages`).type('text/plain').send(text).expect(201)

/** The problem in the last event of a stream, once it has ended. */
async function reason(stream: Reader): Promise<{ code: string; status: number; retryable: boolean; instance: string }> {
  await stream.ended
  const last = stream.events().at(-1)
  assert.equal(last?.event, 'end', stream.text())
  return JSON.parse(last.data)
}

describe('end of a stream', () => {
  it('a stream ends with queue_not_found when its queue is deleted', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 'held')
    const stream = await openStream(`${gateway.url}/queues/${queue}/stream`)
    const lines = await openStream(`${gateway.url}/queues/${queue}/stream`, NDJSON)
    await eventually(() => assert.equal(stream.messages().length + lines.messages().length, 1))
    await gateway.delete(`/queues/${queue}`).expect(204)
    const { code, status, instance } = await reason(stream)
    assert.deepEqual([code, status, instance], ['queue_not_found', 404, `/queues/${queue}/stream`])
    await lines.ended
    assert.equal(JSON.parse(lines.text().trim().split('\n').at(-1)!).code, 'queue_not_found')
    assert.ok(lines.response.complete)
    await eventually(() => assert.equal(gateway.app.services.leases.open, 0))
  })

  it('a stream ends with shutting_down on SIGTERM, and its unsettled messages go to another gateway', async () => {
    const queue = await freshQueue(gateway)
    const other = await readyGateway({ AMQP_URL: broker.url })
    for (const text of ['done', 'not done', 'not seen']) await publish(queue, text)
    const stream = await openStream(`${other.url}/queues/${queue}/stream?prefetch=2`)
    const [first] = await stream.until(2)
    await gateway.post(`/leases/${first!.lease!.id}/ack`).expect(204)
    await stream.until(3)
    const successor = await openStream(`${gateway.url}/queues/${queue}/stream`)
    other.child.kill('SIGTERM')
    const { code, retryable } = await reason(stream)
    assert.deepEqual([code, retryable], ['shutting_down', true])
    const taken = await successor.until(2)
    assert.deepEqual(
      taken.map(({ payload, redelivered }) => [payload, redelivered]),
      [
        ['not done', true],
        ['not seen', true],
      ],
    )
    assert.equal(await other.exited, 0)
    successor.leave()
  })

  it('a stream of a killed gateway ends, and its messages go to another gateway', async () => {
    const queue = await freshQueue(gateway)
    const other = await readyGateway({ AMQP_URL: broker.url })
    await publish(queue, 'kept')
    const stream = await openStream(`${other.url}/queues/${queue}/stream`)
    await stream.until(1)
    const successor = await openStream(`${gateway.url}/queues/${queue}/stream`)
    other.child.kill('SIGKILL')
    await stream.ended
    const [message] = await successor.until(1)
    assert.deepEqual([message!.payload, message!.redelivered], ['kept', true])
    successor.leave()
  })

  it('a stream ends with broker_unavailable when the broker stops, and can be opened again when it is back', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    await publish(queue, 'survives')
    const stream = await openStream(`${gateway.url}/queues/${queue}/stream`)
    await stream.until(1)
    await broker.stop()
    const { code, retryable } = await reason(stream)
    assert.deepEqual([code, retryable], ['broker_unavailable', true])
    await gateway.get(`/queues/${queue}/stream`).expect(503)
    await broker.start()
    await eventually(() => assert.equal(gateway.app.services.notReady(), undefined), 60_000)
    const again = await openStream(`${gateway.url}/queues/${queue}/stream?ack=auto`)
    assert.equal((await again.until(1))[0]!.payload, 'survives')
  })
})
