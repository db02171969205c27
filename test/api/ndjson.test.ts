// NDJSON: any number of messages in one request, published and confirmed as they come, a result line each.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { allConnections, brokerConnections } from '../support/refused.js'

const gateway = await startGateway({ MAX_MESSAGE_SIZE: '1MiB' })

interface Result {
  index: number
  id?: string
  status: string
  message_id?: string
  problem?: { code: string }
}

const count = async (queue: string): Promise<number> => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

/** An upload under way: lines are written by hand, results read as they come. */
function upload(queue: string) {
  const path = `/queues/${queue}/messages/batch`
  const outgoing = request(gateway.url + path, { method: 'POST', headers: { 'content-type': 'application/x-ndjson' } })
  outgoing.on('error', () => undefined)
  let text = ''
  const answered = once(outgoing, 'response').then((args) => {
    const [response] = args as [IncomingMessage]
    response.setEncoding('utf8')
    response.on('data', (chunk) => {
      text += chunk
    })
    response.on('error', () => undefined)
    return response
  })
  answered.catch(() => undefined)
  outgoing.flushHeaders()
  return {
    outgoing,
    answered,
    lines: () => text.split('\n').slice(0, -1),
    /** Resolves with the answer once it is whole. */
    whole: async () => {
      const response = await answered
      await once(response, 'end')
      assert.ok(text.endsWith('\n'))
      const lines = text.trimEnd().split('\n')
      const totals = JSON.parse(lines.pop()!) as { published: number; failed: number }
      return { status: response.statusCode, results: lines.map((line) => JSON.parse(line) as Result), totals }
    },
  }
}

async function post(queue: string, body: string | Buffer) {
  const { outgoing, whole } = upload(queue)
  outgoing.end(body)
  return whole()
}

describe('a line', () => {
  it('is a message, whatever ends it and whatever is between them', async () => {
    const queue = await freshQueue(gateway)
    const body = '{"payload": 1}\r\n\n  \n{"payload": "zwei\\n🐇", "id": "b"}\n\t {"payload": 3.10} \r\n{"payload": "no end"}'
    const { status, results, totals } = await post(queue, body)
    assert.equal(status, 200)
    assert.deepEqual(totals, { published: 4, failed: 0 })
    assert.deepEqual(
      results.map(({ index, id, status }) => [index, id, status]),
      [0, 1, 2, 3].map((index) => [index, index === 1 ? 'b' : undefined, 'confirmed']),
    )
    const { body: received } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=10`).expect(200)
    assert.deepEqual(
      received.messages.map(({ payload }: { payload: unknown }) => payload),
      [1, 'zwei\n🐇', 3.1, 'no end'],
    )
    assert.deepEqual(
      received.messages.map(({ properties }: { properties: { message_id: string } }) => properties.message_id),
      results.map(({ message_id }) => message_id),
    )
  })

  it('comes in pieces of any size, in the middle of a character too', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, whole } = upload(queue)
    for (const byte of Buffer.from('{"payload": "ü🐇"}\n{"payload": "ß"}\n')) outgoing.write(Buffer.of(byte))
    outgoing.end()
    assert.deepEqual((await whole()).totals, { published: 2, failed: 0 })
    const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=10`).expect(200)
    assert.deepEqual(
      body.messages.map(({ payload }: { payload: unknown }) => payload),
      ['ü🐇', 'ß'],
    )
  })

  it('that is bad fails alone', async () => {
    const queue = await freshQueue(gateway)
    const bad = [
      ['not JSON', 'invalid_message'],
      ['{"payload": 1', 'invalid_message'],
      ['[1]', 'invalid_message'],
      ['{}', 'invalid_message'],
      ['{"payload": 1, "nonsense": 1}', 'invalid_message'],
      ['{"payload": 1} {"payload": 2}', 'invalid_message'],
      ['"\u0000"', 'invalid_message'],
      ['[{"payload": 1}]'.repeat(1000), 'invalid_message'],
      [`${'['.repeat(100_000)}`, 'invalid_message'],
      [`{"payload": "${'x'.repeat(1024 * 1024 + 1)}"}`, 'message_too_large'],
      [`{"payload": "${'x'.repeat(20 * 1024 * 1024)}"}`, 'message_too_large'],
    ] as const
    const { results, totals } = await post(queue, bad.map(([line]) => `${line}\n{"payload": "good"}\n`).join(''))
    assert.deepEqual(totals, { published: bad.length, failed: bad.length })
    for (const [n, [line, code]] of bad.entries()) {
      assert.deepEqual([results[2 * n]!.status, results[2 * n]!.problem?.code], ['invalid', code], line.slice(0, 100))
      assert.equal(results[2 * n + 1]!.status, 'confirmed')
    }
    assert.equal(await count(queue), bad.length)
  })

  it('that never ends is one bad message', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, whole } = upload(queue)
    outgoing.write('{"payload": "before"}\n{"payload": "')
    const piece = Buffer.alloc(1024 * 1024, 'x')
    for (let n = 0; n < 64; n++) if (!outgoing.write(piece)) await once(outgoing, 'drain')
    outgoing.end()
    const { results, totals } = await whole()
    assert.deepEqual(totals, { published: 1, failed: 1 })
    assert.equal(results[1]!.problem?.code, 'message_too_large')
  })
})

describe('an upload', () => {
  it('of nothing has no results', async () => {
    const queue = await freshQueue(gateway)
    for (const body of ['', '\n', '\r\n \n']) {
      assert.deepEqual(await post(queue, body), { status: 200, results: [], totals: { published: 0, failed: 0 } })
    }
  })

  it('is answered in order while it goes on', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, lines, whole } = upload(queue)
    const written = 2500
    let sent = 0
    // More than are ever on their way at once: the first of them must have been answered.
    for (; sent < written; sent++) outgoing.write(`{"payload": ${sent}}\n`)
    await eventually(() => assert.ok(lines().length > 500, `${lines().length} results`))
    assert.ok(!outgoing.writableEnded)
    for (; sent < 2 * written; sent++) outgoing.write(`{"payload": ${sent}}\n`)
    outgoing.end()
    const { results, totals } = await whole()
    assert.deepEqual(totals, { published: 2 * written, failed: 0 })
    assert.deepEqual(
      results.map(({ index }) => index),
      Array.from({ length: 2 * written }, (_, index) => index),
    )
    assert.equal(await count(queue), 2 * written)
  })

  it('whose sender goes away half-way leaves what was confirmed, and no more is published', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, answered, lines } = upload(queue)
    for (let n = 0; n < 3000; n++) outgoing.write(`{"payload": ${n}}\n`)
    outgoing.write('{"payload": "half of a li')
    await eventually(() => assert.ok(lines().length > 500, `${lines().length} results`))
    outgoing.destroy()
    ;(await answered).destroy()
    const confirmed = lines().length
    // Its publishes end: the count stands still, and holds all that was answered, in order and without a gap.
    let last = -1
    await eventually(async () => {
      const now = await count(queue)
      const still = now === last
      last = now
      assert.ok(still && now >= confirmed && now <= 3000, `${now} messages, ${confirmed} confirmed`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    })
    for (let n = 0; n < last; ) {
      const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=1000`).expect(200)
      for (const { payload } of body.messages) assert.equal(payload, n++)
    }
    assert.equal(await count(queue), 0)
  })

  it('harms nobody who publishes beside it', async () => {
    const [queue, other] = [await freshQueue(gateway), await freshQueue(gateway)]
    const before = await allConnections()
    const { outgoing, whole } = upload(queue)
    for (let n = 0; n < 5000; n++) outgoing.write(n % 2 ? 'nonsense\n' : `{"payload": ${n}}\n`)
    for (let n = 0; n < 20; n++) await gateway.post(`/queues/${other}/messages`).type('text/plain').send('x').expect(201)
    outgoing.end()
    assert.deepEqual((await whole()).totals, { published: 2500, failed: 2500 })
    assert.equal(await count(other), 20)
    assert.deepEqual(await brokerConnections(), before)
  })
})
