// Streams: a consumer that lives as long as the connection of its client.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { openStream } from '../support/stream.js'

const gateway = await startGateway()
const NDJSON = { accept: 'application/x-ndjson' }

async function publish(queue: string, count: number, from = 0, on: Gateway = gateway): Promise<void> {
  const messages = Array.from({ length: count }, (_, n) => ({ payload: from + n }))
  const { body } = await on.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  assert.equal(body.published, count)
}

const open = (queue: string, query = '', headers: Record<string, string> = {}, on: Gateway = gateway) =>
  openStream(`${on.url}/queues/${queue}/stream${query}`, headers)
const count = async (queue: string): Promise<number> => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count
const consumers = async (queue: string): Promise<number> =>
  (await gateway.get(`/queues/${queue}`).expect(200)).body.consumer_count
const payloads = (messages: { payload: unknown }[]): unknown[] => messages.map(({ payload }) => payload)
const numbers = (length: number, from = 0): number[] => Array.from({ length }, (_, n) => from + n)
const ack = (messages: { lease?: { id: string } }[]) =>
  gateway
    .post('/leases/settle')
    .send({ ack: messages.map(({ lease }) => lease!.id) })
    .expect(200)

describe('streams', () => {
  it('a message cannot forge an event or an event id', async () => {
    const forged = '1\ndata: {"payload": "forged"}\n\nevent: message\nid: 9'
    for (const type of ['classic', 'quorum', 'stream']) {
      const queue = await freshQueue(gateway, { type })
      const messages = [forged, 7, -1, '8', { a: 'b' }, 'a\rid: 9'].map((offset, n) => ({
        payload: n,
        properties: { type: 'a', app_id: 'b', headers: { 'x-stream-offset': offset, 'a\ndata: x': 'y\r\ndata: z' } },
      }))
      const { body } = await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
      assert.equal(body.published, messages.length)
      const stream = await open(queue, type === 'stream' ? '?offset=first' : '')
      assert.deepEqual(payloads(await stream.until(messages.length)), numbers(messages.length))
      assert.equal(stream.events().length, messages.length)
      // RabbitMQ's own header of a stream replaces the publisher's.
      const ids = type === 'stream' ? numbers(messages.length).map(String) : messages.map(() => undefined)
      assert.deepEqual(
        stream.events().map(({ id }) => id),
        ids,
      )
      stream.leave()
    }
  })

  it('a stream sends server-sent events, each with a lease that other requests settle', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 2)
    const stream = await open(queue)
    assert.equal(stream.response.statusCode, 200)
    assert.match(stream.response.headers['content-type']!, /^text\/event-stream/)
    assert.equal(stream.response.headers['cache-control'], 'no-store')
    assert.ok(stream.response.headers['x-request-id'])
    const [first, second] = await stream.until(2)
    assert.deepEqual([first!.payload, second!.payload], [0, 1])
    assert.ok(Date.parse(first!.lease!.expires_at) > Date.now())
    await gateway.post(`/leases/${first!.lease!.id}/ack`).expect(204)
    await gateway.post(`/leases/${second!.lease!.id}/nack`).expect(204)
    const again = (await stream.until(3))[2]!
    assert.deepEqual([again.payload, again.redelivered], [1, true])
    await gateway.get(`/leases/${again.lease!.id}`).expect(200)
    await gateway.post(`/leases/${again.lease!.id}/ack`).expect(204)
    await publish(queue, 1, 7)
    assert.equal((await stream.until(4))[3]!.payload, 7)
    assert.ok(stream.events().every(({ id }) => id === undefined))
  })

  it('a stream sends one message per line if the client accepts NDJSON', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 3)
    const stream = await open(queue, '?ack=auto', NDJSON)
    assert.match(stream.response.headers['content-type']!, /^application\/x-ndjson/)
    assert.deepEqual(payloads(await stream.until(3)), [0, 1, 2])
    assert.ok(stream.messages().every(({ lease }) => lease === undefined))
    stream.leave()
    await eventually(async () => assert.equal(await consumers(queue), 0))
    assert.equal(await count(queue), 0)
  })

  it('a stream never has more unsettled messages than its prefetch', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 30)
    const stream = await open(queue, '?prefetch=7')
    const first = await stream.until(7)
    await publish(queue, 1, 30)
    assert.equal(stream.messages().length, 7)
    assert.equal(await count(queue), 24)
    await ack(first.slice(0, 3))
    await stream.until(10)
    assert.equal(await count(queue), 21)
    assert.deepEqual(payloads(stream.messages()), numbers(10))
  })

  it('a stream shows the delivery count of a quorum queue', async () => {
    const queue = await freshQueue(gateway, { type: 'quorum' })
    await publish(queue, 1)
    const stream = await open(queue)
    const [first] = await stream.until(1)
    assert.equal(first!.delivery_count, 1)
    await gateway.post(`/leases/${first!.lease!.id}/nack`).expect(204)
    assert.equal((await stream.until(2))[1]!.delivery_count, 2)
  })

  it('the leases of a stream expire after the requested time', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 1)
    const stream = await open(queue, '?lease=1s')
    const [first] = await stream.until(1)
    const again = (await stream.until(2))[1]!
    assert.equal(again.redelivered, true)
    assert.equal((await gateway.post(`/leases/${first!.lease!.id}/ack`).expect(410)).body.code, 'lease_gone')
    await gateway.post(`/leases/${again.lease!.id}/ack`).expect(204)
  })

  it('a stream sends a heartbeat every 15 seconds', async (t) => {
    const queue = await freshQueue(gateway)
    t.mock.timers.enable({ apis: ['setInterval'] })
    const [events, lines] = [await open(queue), await open(queue, '', NDJSON)]
    t.mock.timers.tick(14_999)
    await eventually(() => assert.match(events.text(), /^retry:/))
    assert.doesNotMatch(events.text(), /^:/m)
    assert.equal(lines.text(), '')
    t.mock.timers.tick(1)
    await eventually(() => assert.match(events.text(), /^:/m))
    await eventually(() => assert.equal(lines.text(), '\n'))
    assert.deepEqual(events.events(), [])
  })

  it('a stream uses the requested encoding and the vhost in the path', async () => {
    const queue = await freshQueue(gateway)
    await publish(queue, 1)
    const vhost = encodeURIComponent(gateway.app.services.vhosts.defaultName)
    const stream = await openStream(`${gateway.url}/vhosts/${vhost}/queues/${queue}/stream?encoding=base64`, NDJSON)
    assert.equal((await stream.until(1))[0]!.payload, Buffer.from('0').toString('base64'))
  })
})

describe('the end of a stream', () => {
  for (const type of ['classic', 'quorum']) {
    it(`unsettled messages of a closed stream return to their ${type} queue in order at once`, async () => {
      const queue = await freshQueue(gateway, { type })
      await publish(queue, 8)
      const stream = await open(queue, '?prefetch=5')
      const held = await stream.until(5)
      await ack(held.slice(0, 2))
      await stream.until(7)
      const other = await open(queue, '?prefetch=10', NDJSON)
      assert.equal((await other.until(1))[0]!.payload, 7)
      stream.leave()
      await other.until(6)
      assert.deepEqual(payloads(other.messages()).slice(1), numbers(5, 2))
      assert.equal((await gateway.post(`/leases/${held[2]!.lease!.id}/ack`).expect(410)).body.code, 'lease_gone')
      await ack(other.messages())
      assert.equal(await count(queue), 0)
    })
  }

  it('a stream with ack=auto settles only what its client has read', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    const large = Array.from({ length: 40 }, () => ({ payload: 'x'.repeat(1024 * 1024) }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages: large }).expect(200)
    const stream = await open(queue, '?ack=auto&prefetch=4')
    stream.response.pause()
    // The stream stops once the socket buffers and its prefetch are full: the count has been the same four times.
    const counts: number[] = []
    await eventually(async () => {
      counts.push(await count(queue))
      await new Promise((resolve) => setTimeout(resolve, 200))
      assert.ok(counts.at(-1)! < 40 && new Set(counts.slice(-4)).size === 1 && counts.length >= 4, String(counts))
    })
    const left = counts.at(-1)!
    assert.ok(left >= 20, `${left} of 40 messages are still in the queue, although the client does not read`)
    stream.leave()
    await eventually(async () => assert.equal(await consumers(queue), 0))
    assert.ok((await count(queue)) > left)
  })
})

describe('streams and receives of one queue', () => {
  it('several streams and a receive share the messages of a queue, each message for one of them', async () => {
    const queue = await freshQueue(gateway)
    // As many messages as all of them can hold, so that each takes part, however fast it is.
    const full = '?prefetch=100'
    const streams = await Promise.all([open(queue, full), open(queue, full, NDJSON), open(queue, full)])
    const poll = gateway.get(`/queues/${queue}/messages?ack=auto&wait=20s`).then(({ body }) => body.messages)
    await eventually(async () => assert.equal(await consumers(queue), 4))
    await publish(queue, 301)
    await Promise.all(streams.map((stream) => stream.until(100)))
    const all = [...payloads(await poll), ...streams.flatMap((stream) => payloads(stream.messages()))] as number[]
    assert.deepEqual(
      all.sort((a, b) => a - b),
      numbers(301),
    )
    for (const stream of streams) await ack(stream.messages())
    await eventually(async () => assert.equal(await count(queue), 0))
  })
})

describe('refused streams', () => {
  it('an invalid stream request is refused with a problem', async () => {
    const queue = await freshQueue(gateway)
    const missing = freshName()
    for (const [path, status, code] of [
      [`/queues/${missing}/stream`, 404, 'queue_not_found'],
      [`/vhosts/${missing}/queues/${queue}/stream`, 404, 'vhost_not_found'],
      ...['ack=requeue', 'ack=', 'prefetch=0', 'prefetch=1001', 'prefetch=x', 'prefetch=1.5', 'lease=0', 'lease=30d', 'lease=x']
        .concat(['encoding=json', 'offset=first', 'offset=5', 'offset=x', 'nonsense=1', 'wait=1s', 'max=1'])
        .map((query) => [`/queues/${queue}/stream?${query}`, 400, 'invalid_request']),
    ] as [string, number, string][]) {
      const { body } = await gateway.get(path).expect(status)
      assert.equal(body.code, code, path)
    }
    await gateway.post(`/queues/${queue}/stream`).expect(405)
    assert.equal(await consumers(queue), 0)
  })

  it('a stream beyond MAX_STREAMS is refused with 429 until another one ends', async () => {
    const small = await startGateway({ MAX_STREAMS: '2' })
    const queue = await freshQueue(small)
    const streams = [await open(queue, '', {}, small), await open(queue, '', {}, small)]
    const refused = await small.get(`/queues/${queue}/stream`).expect(429)
    assert.equal(refused.body.code, 'too_many_waiters')
    assert.ok(Number(refused.headers['retry-after']) > 0)
    streams[0]!.leave()
    await eventually(async () => {
      const again = await open(queue, '', {}, small)
      assert.equal(again.response.statusCode, 200)
    })
  })
})

describe('metrics of streams', () => {
  it('the metrics count open streams', async () => {
    const queue = await freshQueue(gateway)
    const opened = async () => Number(/^gateway_streams_open (\d+)$/m.exec((await gateway.get('/metrics')).text)?.[1])
    await open(queue)
    const before = await opened()
    assert.ok(before > 0)
    const stream = await open(queue)
    assert.equal(await opened(), before + 1)
    stream.leave()
    await eventually(async () => assert.equal(await opened(), before))
  })
})
