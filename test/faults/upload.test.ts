// Uploads and batches while the broker does not answer: the unsent messages are limited, and dropped with their client.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import type { Socket } from 'node:net'
import { afterEach, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, startGateway } from '../support/gateway.js'
import { proxied } from '../support/proxy.js'
import { openUpload } from '../support/upload.js'

const { proxy, url } = await proxied(AMQP_URL)
const gateway = await startGateway({ AMQP_URL: url, PUBLISH_BUFFER: '1MiB', MAX_MESSAGE_SIZE: '1MiB' })
// A gateway without faults, to check the state of the broker.
const witness = await startGateway()

const KiB = 1024
const count = async (queue: string): Promise<number> => (await witness.get(`/queues/${queue}`).expect(200)).body.message_count
const batchPath = (queue: string) => `${gateway.url}/queues/${queue}/messages/batch`
const unconfirmed = () => gateway.app.services.vhosts.default.publisher.unconfirmedBytes
const openBatches = async () => Number(/^gateway_batches_open (\d+)$/m.exec((await gateway.get('/metrics').expect(200)).text)![1])

afterEach(async () => {
  proxy.thaw()
  await eventually(() => assert.equal(gateway.app.services.notReady(), undefined), 30_000)
})

/** The number of messages in the queue after all publishes in progress: the gateway's next publish is confirmed after them. */
async function stored(queue: string): Promise<number> {
  await eventually(() => gateway.post(`/queues/${queue}/messages`).type('text/plain').send('the last').expect(201), 30_000)
  await eventually(() => assert.equal(unconfirmed(), 0))
  return (await count(queue)) - 1
}

describe('client that disconnects while the broker is slow', () => {
  const payload = 'x'.repeat(100 * KiB)

  // Ten messages of 100 KiB fit into 1 MiB. The gateway notices the end of an upload only when it reads again.
  for (const [what, most, type, body] of [
    ['an upload', 12, 'application/x-ndjson', `${JSON.stringify({ payload })}\n`.repeat(50)],
    ['a batch', 10, 'application/json', JSON.stringify({ messages: Array.from({ length: 50 }, () => ({ payload })) })],
  ] as const) {
    it(`after the client of ${what} disconnects only the messages that were already sent are published`, async () => {
      const queue = await freshQueue(gateway)
      const connected = once(gateway.app.http.server, 'connection')
      const outgoing = request(batchPath(queue), { method: 'POST', headers: { 'content-type': type }, agent: false })
      outgoing.on('error', () => undefined)
      // Too slow for a message to pass before the client disconnects, and fast enough to look up the queue.
      proxy.slow(50_000)
      outgoing.end(body)
      const [socket] = (await connected) as [Socket]
      await eventually(() => assert.ok(unconfirmed() > 900 * KiB, `${unconfirmed()} unconfirmed bytes`))
      outgoing.destroy()
      await eventually(() => assert.ok(socket.destroyed), 30_000)
      proxy.thaw()
      await eventually(async () => assert.equal(await openBatches(), 0))
      const published = await stored(queue)
      assert.ok(published >= 10 && published <= most, `${published} were published`)
    })
  }

  it('after the client of an upload disconnects before its queue is found nothing is published', async () => {
    const queue = await freshQueue(gateway)
    proxy.freeze()
    const connected = once(gateway.app.http.server, 'connection')
    const { outgoing } = openUpload(batchPath(queue))
    const [socket] = (await connected) as [Socket]
    outgoing.write(`${JSON.stringify({ payload })}\n`.repeat(20))
    await eventually(async () => assert.equal(await openBatches(), 1))
    outgoing.destroy()
    await eventually(() => assert.ok(socket.destroyed))
    proxy.thaw()
    await eventually(async () => assert.equal(await openBatches(), 0))
    assert.equal(await stored(queue), 0)
  })
})

describe('upload while the broker does not answer', () => {
  it('an upload is read only up to PUBLISH_BUFFER, also if its messages use the isolated publisher', {
    timeout: 60_000,
  }, async () => {
    const queue = await freshQueue(gateway)
    const decimal = { amqp_type: 'decimal', value: { places: 2, digits: 314 } }
    for (const headers of [{}, { decimal }]) {
      const { outgoing, until, whole } = openUpload(batchPath(queue))
      const line = (payload: string) => `${JSON.stringify({ payload, properties: { headers } })}\n`
      outgoing.write(line('the first'))
      await until(1)
      proxy.freeze()
      const large = line('x'.repeat(500 * KiB))
      let written = 0
      for (let stalled = false; !stalled; written++) {
        assert.ok(written < 100, 'the gateway does not stop reading')
        if (outgoing.write(large)) continue
        const drained = once(outgoing, 'drain').then(() => false)
        stalled = await Promise.race([drained, new Promise<true>((resolve) => setTimeout(resolve, 2000, true))])
      }
      proxy.thaw()
      outgoing.end()
      assert.deepEqual((await whole()).totals, { published: written + 1, failed: 0 })
    }
  })
})
