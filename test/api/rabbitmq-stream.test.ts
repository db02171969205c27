// RabbitMQ streams: read from an offset, and resumed exactly at the point where a connection was lost.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { allConnections, brokerConnections } from '../support/expect-refused.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { openStream } from '../support/stream.js'

const gateway = await startGateway()
const numbers = (length: number, from = 0): number[] => Array.from({ length }, (_, n) => from + n)

async function publish(queue: string, count: number, from = 0): Promise<void> {
  const messages = numbers(count, from).map((payload) => ({ payload }))
  const { body } = await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  assert.equal(body.published, count)
}

const open = (queue: string, query = '', headers: Record<string, string> = {}) =>
  openStream(`${gateway.url}/queues/${queue}/stream${query}`, headers)

describe('reading RabbitMQ streams', () => {
  it('a stream is read from first, last, next or an offset, and the event ids are the offsets', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    await publish(queue, 50)
    for (const [query, from] of [
      ['?offset=first', 0],
      ['?offset=0', 0],
      ['?offset=17', 17],
      ['?offset=first&ack=auto&prefetch=1', 0],
    ] as const) {
      const stream = await open(queue, query)
      const messages = await stream.until(50 - from)
      assert.deepEqual(
        messages.map(({ payload }) => payload),
        numbers(50 - from, from),
      )
      assert.deepEqual(
        stream.events().map(({ id }) => Number(id)),
        numbers(50 - from, from),
      )
      assert.ok(messages.every(({ lease }) => lease === undefined))
      stream.leave()
    }
    const [next, byDefault, beyond] = await Promise.all([open(queue, '?offset=next'), open(queue), open(queue, '?offset=1000')])
    await publish(queue, 1, 50)
    assert.deepEqual((await next.until(1))[0]!.payload, 50)
    assert.deepEqual((await byDefault.until(1))[0]!.payload, 50)
    assert.equal(beyond.messages().length, 0)
    const last = await open(queue, '?offset=last')
    await eventually(() => assert.equal(last.messages().at(-1)?.payload, 50))
    const lines = await open(queue, '?offset=49', { accept: 'application/x-ndjson' })
    assert.deepEqual(
      (await lines.until(2)).map(({ payload, properties }) => [payload, properties.headers!['x-stream-offset']]),
      [
        [49, 49],
        [50, 50],
      ],
    )
  })

  it('a stream is read from a time', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    await publish(queue, 5)
    // RabbitMQ finds chunks by their time, and AMQP has whole seconds: the second chunk is in a later one than the first.
    const between = await new Promise<string>((resolve) => setTimeout(() => resolve(new Date().toISOString()), 1100))
    await publish(queue, 5, 5)
    const stream = await open(queue, `?offset=${encodeURIComponent(between)}`)
    assert.deepEqual(
      (await stream.until(5)).map(({ payload }) => payload),
      numbers(5, 5),
    )
    const all = await open(queue, '?offset=2020-01-01T00:00:00%2B02:00')
    assert.equal((await all.until(10)).length, 10)
  })

  it('every reader of a stream gets all messages', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    await publish(queue, 200)
    const readers = await Promise.all([0, 1, 2].map(() => open(queue, '?offset=first')))
    for (const reader of readers) {
      assert.deepEqual(
        (await reader.until(200)).map(({ payload }) => payload),
        numbers(200),
      )
    }
  })

  it('a client that reconnects with Last-Event-ID reads each of 10,000 messages exactly once', {
    timeout: 120_000,
  }, async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    await publish(queue, 10_000)
    const seen: number[] = []
    let lastEventId: string | undefined
    for (let connections = 0; seen.length < 10_000; connections++) {
      assert.ok(connections < 50, `${connections} connections, ${seen.length} messages`)
      const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
      const stream = await open(queue, '?offset=first&prefetch=300', headers)
      await eventually(() => assert.ok(stream.events().length >= Math.min(1234, 10_000 - seen.length)))
      stream.leave()
      await stream.ended
      // An incomplete last event does not count.
      const events = stream.events()
      seen.push(...events.map(({ data }) => JSON.parse(data).payload as number))
      lastEventId = events.at(-1)!.id
    }
    assert.deepEqual(seen, numbers(10_000))
  })

  it('Last-Event-ID takes precedence over the offset in the query', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    await publish(queue, 3)
    const stream = await open(queue, '?offset=first', { 'last-event-id': '1' })
    assert.deepEqual((await stream.until(1))[0]!.payload, 2)
    assert.equal(stream.messages().length, 1)
  })
})

describe('invalid offsets', () => {
  it('an invalid offset or Last-Event-ID is refused with 400 and never reaches RabbitMQ', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    const before = await allConnections()
    const bad = ['', '-1', '1.5', 'x', 'FIRST', '9223372036854775808', '99999999999999999999', '2026-13-01T00:00:00Z']
    bad.push('2026-01-01', '1960-01-01T00:00:00Z', '1e3', '0x10', 'x'.repeat(100), '5%00', 'last%20')
    for (const offset of bad) {
      const { body } = await gateway.get(`/queues/${queue}/stream?offset=${offset}`).expect(400)
      assert.deepEqual([body.code, body.errors[0].pointer], ['invalid_request', '/query/offset'], offset)
    }
    for (const id of ['-1', 'x', '1.5', '9223372036854775807', '99999999999999999999', '1 2', 'last']) {
      const { body } = await gateway.get(`/queues/${queue}/stream`).set('last-event-id', id).expect(400)
      assert.deepEqual([body.code, body.errors[0].pointer], ['invalid_request', '/header/last-event-id'], id)
    }
    await gateway.get(`/queues/${queue}/stream?ack=manual`).expect(400)
    assert.deepEqual(await brokerConnections(), before)
  })

  it('an offset for a queue that is not a stream is refused with 400, and a Last-Event-ID is ignored', async () => {
    for (const type of ['classic', 'quorum']) {
      const queue = await freshQueue(gateway, { type })
      for (const offset of ['first', '5', '2026-01-01T00:00:00Z']) {
        const { body } = await gateway.get(`/queues/${queue}/stream?offset=${offset}`).expect(400)
        assert.equal(body.errors[0].pointer, '/query/offset')
      }
      await publish(queue, 1)
      for (const id of ['5', 'x', '-1']) {
        const stream = await open(queue, '', { 'last-event-id': id })
        assert.equal((await stream.until(1)).length, 1)
        stream.leave()
        await stream.ended
      }
    }
  })

  it('a receive from a stream is answered with stream_queue', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    assert.equal((await gateway.get(`/queues/${queue}/messages`).expect(409)).body.code, 'stream_queue')
  })
})
