// Uploads and batches while the broker stands still: what waits is bounded, and given up with its client.

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
// One that nothing happens to, to look at the broker with.
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

/** After what was on its way has come through: the gateway's own next publish stands behind it. */
async function stored(queue: string): Promise<number> {
  await eventually(() => gateway.post(`/queues/${queue}/messages`).type('text/plain').send('the last').expect(201), 30_000)
  await eventually(() => assert.equal(unconfirmed(), 0))
  return (await count(queue)) - 1
}

describe('a client that goes away while the broker is slow', () => {
  const payload = 'x'.repeat(100 * KiB)

  // Ten of 100 KiB fit into 1 MiB. Of an upload that it has stopped reading the gateway hears only when it goes on.
  for (const [what, most, type, body] of [
    ['an upload', 12, 'application/x-ndjson', `${JSON.stringify({ payload })}\n`.repeat(50)],
    ['a batch', 10, 'application/json', JSON.stringify({ messages: Array.from({ length: 50 }, () => ({ payload })) })],
  ] as const) {
    it(`has no more of ${what} published than was on its way`, async () => {
      const queue = await freshQueue(gateway)
      const connected = once(gateway.app.http.server, 'connection')
      const outgoing = request(batchPath(queue), { method: 'POST', headers: { 'content-type': type }, agent: false })
      outgoing.on('error', () => undefined)
      // So slow that no message is through before the client has gone, and finding the queue takes no time.
      proxy.slow(50_000)
      outgoing.end(body)
      const [socket] = (await connected) as [Socket]
      await eventually(() => assert.ok(unconfirmed() > 900 * KiB, `${unconfirmed()} bytes on their way`))
      outgoing.destroy()
      await eventually(() => assert.ok(socket.destroyed), 30_000)
      proxy.thaw()
      await eventually(async () => assert.equal(await openBatches(), 0))
      const published = await stored(queue)
      assert.ok(published >= 10 && published <= most, `${published} were published`)
    })
  }

  it('before its queue was found has nothing published', async () => {
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

describe('an upload while the broker stands still', () => {
  it('is read no further than what may be on its way, of messages too that travel apart', { timeout: 60_000 }, async () => {
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
        assert.ok(written < 100, 'it reads on and on')
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
