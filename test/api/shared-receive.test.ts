// Receives of one queue at the same moment share a channel, yet each gets and settles only its own messages.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DeliveryChannel } from '../../src/amqp/consume/delivery-channel.js'
import { giveBack, ReceiveAbort } from '../../src/amqp/consume/receive.js'
import { now } from '../../src/lib/clock.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const vhost = gateway.app.services.vhosts.default
const is3 = vhost.leaseConnections[0]!.connection.brokerVersion.startsWith('3.')

async function queueWith(payloads: string[], type = 'classic'): Promise<string> {
  const queue = await freshQueue(gateway, { type })
  for (const payload of payloads) await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(payload).expect(201)
  return queue
}

/** Starts `count` receives in one turn of the event loop, each as a request would. */
const atOnce = (queue: string, count: number, wait = 0) =>
  Promise.all(
    Array.from({ length: count }, () =>
      vhost.sharedReceive.receiveOne({ queue, max: 1, until: now() + wait, maxBytes: 1000, abort: new ReceiveAbort() }),
    ),
  )
const texts = (receives: Awaited<ReturnType<typeof atOnce>>) =>
  receives.map(({ deliveries }) => deliveries.map(({ body }) => body.toString()).join())
const ready = async (queue: string) => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count
const payloads = async (queue: string) =>
  (await gateway.get(`/queues/${queue}/messages?ack=requeue&max=100`).expect(200)).body.messages.map(
    ({ payload }: { payload: string }) => payload,
  )

describe('concurrent receives', () => {
  it('concurrent receives share a channel and take one message each, in order', async () => {
    const queue = await queueWith(['a', 'b', 'c', 'd'])
    const receives = await atOnce(queue, 3)
    assert.deepEqual(texts(receives), ['a', 'b', 'c'])
    const deliveries = receives.flatMap((taken) => taken.deliveries)
    assert.equal(new Set(deliveries.map(({ channel }) => channel)).size, 1)
    assert.deepEqual(await payloads(queue), ['d'])
    for (const { channel } of deliveries.slice(0, 1)) await channel.close()
    await eventually(async () => assert.deepEqual(await payloads(queue), ['a', 'b', 'c', 'd']))
  })

  it('concurrent receives without a message end empty or wait for the next one', async () => {
    const queue = await queueWith(['a'])
    assert.deepEqual(texts(await atOnce(queue, 3)), ['a', '', ''])
    const waiting = atOnce(queue, 3, 20_000)
    for (const payload of ['b', 'c', 'd']) await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(payload)
    assert.deepEqual(texts(await waiting).sort(), ['b', 'c', 'd'])
  })

  it('up to 32 concurrent receives share a channel, and large messages are received one after the other', async () => {
    const large = 'x'.repeat(300 * 1024)
    const queue = await queueWith(Array.from({ length: 40 }, (_, n) => (n < 3 ? large : `small ${n}`)))
    const receives = await atOnce(queue, 40)
    assert.equal(texts(receives).filter((text) => text === large).length, 3)
    assert.equal(new Set(texts(receives).filter((text) => text !== large)).size, 37)
    const channels = [...new Set(receives.map(({ deliveries }) => deliveries[0]!.channel))]
    assert.deepEqual(channels.map(({ held }) => held).sort(), [32, 8])
    for (const channel of channels) await channel.close()
    await eventually(async () => assert.equal(await ready(queue), 40))
  })

  it('each of several concurrent receives from a missing queue is refused', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 3 }, () => gateway.get(`/queues/${freshName('missing')}/messages`).expect(404)),
    )
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'fulfilled'],
    )
    const missing = freshName('missing')
    const refused = await Promise.allSettled(
      Array.from({ length: 3 }, () =>
        vhost.sharedReceive.receiveOne({ queue: missing, max: 1, until: 0, maxBytes: 1, abort: new ReceiveAbort() }),
      ),
    )
    for (const outcome of refused) assert.equal(outcome.status === 'rejected' && outcome.reason.code, 'queue_not_found')
  })

  it('a message received on a shared channel is acked alone while the others are requeued', async () => {
    const queue = await queueWith(['a', 'b', 'c', 'd'])
    const [a, b, c, d] = (await atOnce(queue, 4)).flatMap(({ deliveries }) => deliveries)
    assert.equal(b!.channel.settle(b!, 'ack'), true)
    const barrier = b!.channel.barrier()
    // The channel still holds the other messages, whose clients have disconnected.
    const { brokerVersion } = vhost.leaseConnections[0]!.connection
    const back = giveBack([a!, c!, d!], brokerVersion)
    await barrier
    await back
    await eventually(async () => assert.deepEqual(await payloads(queue), ['a', 'c', 'd']))
    assert.equal(b!.channel.settle(b!, 'ack'), false)
  })

  it('acks on a shared channel never include unsettled messages', async () => {
    const queue = await queueWith(['a', 'b', 'c', 'd', 'e'])
    const [a, b, c, d, e] = (await atOnce(queue, 5)).flatMap(({ deliveries }) => deliveries)
    const { channel } = a!
    for (const delivery of [d!, a!, b!]) channel.settle(delivery, 'ack') // a and b in one frame, d alone
    await channel.barrier()
    assert.ok(channel instanceof DeliveryChannel)
    assert.deepEqual(channel.unsettled(), [c, e])
    channel.settle(c!, 'ack')
    channel.settle(e!, 'requeue')
    await channel.barrier()
    await eventually(async () => assert.deepEqual(await payloads(queue), ['e']))
    assert.equal(await ready(queue), 1)
  })

  it('concurrent receives from a quorum queue share a channel only on a RabbitMQ that requeues in order', async () => {
    const queue = await queueWith(['a', 'b', 'c'], 'quorum')
    await gateway.get(`/queues/${queue}/messages?ack=requeue`).expect(200)
    const deliveries = (await atOnce(queue, 3)).flatMap((taken) => taken.deliveries)
    assert.equal(deliveries.length, 3)
    assert.equal(new Set(deliveries.map(({ channel }) => channel)).size, is3 ? 3 : 1)
    for (const delivery of deliveries) delivery.channel.settle(delivery, 'ack')
    await eventually(async () => assert.equal(await ready(queue), 0))
  })

  it('many workers over HTTP, some of which disconnect, lose and duplicate no message', async () => {
    const sent = Array.from({ length: 300 }, (_, n) => `task ${n}`)
    const queue = await queueWith(sent)
    const done: string[] = []
    let rest = sent.length
    const worker = async (n: number) => {
      for (let turn = 0; rest > 0; turn++) {
        const abort = new AbortController()
        const answer = fetch(`${gateway.url}/queues/${queue}/messages?wait=1s`, { signal: abort.signal })
        if (n % 4 === 0 && turn % 2 === 0) {
          setImmediate(() => abort.abort())
          await answer.catch(() => undefined)
          continue
        }
        const { messages } = (await (await answer).json()) as { messages: { payload: string; lease: { id: string } }[] }
        for (const { payload, lease } of messages) {
          const ack = await fetch(`${gateway.url}/leases/${lease.id}/ack`, { method: 'POST' })
          assert.equal(ack.status, 204)
          done.push(payload)
          rest--
        }
      }
    }
    await Promise.all(Array.from({ length: 24 }, (_, n) => worker(n)))
    assert.deepEqual(done.sort(), sent.sort())
  })
})
