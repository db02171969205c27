// NDJSON uploads: any number of messages in one request, published as they arrive, with one result line for each.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { allConnections, brokerConnections } from '../support/expect-refused.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { openUpload } from '../support/upload.js'

const gateway = await startGateway({ MAX_MESSAGE_SIZE: '1MiB', PUBLISH_BUFFER: '2MiB' })

const count = async (queue: string): Promise<number> => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count
const upload = (queue: string) => openUpload(`${gateway.url}/queues/${queue}/messages/batch`)

async function post(queue: string, body: string | Buffer) {
  const { outgoing, whole } = upload(queue)
  outgoing.end(body)
  return whole()
}

describe('lines of an NDJSON upload', () => {
  it('each line is a message, with any line ending and blank lines between', async () => {
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

  it('a line may arrive in single bytes, split inside characters', async () => {
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

  it('an invalid line fails alone', async () => {
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

  it('a line that is not UTF-8 is invalid instead of being published with replacement characters', async () => {
    const queue = await freshQueue(gateway)
    const bytes = Buffer.concat([
      Buffer.from('{"payload": "'),
      Buffer.of(0xff, 0xfe),
      Buffer.from('"}\n{"payload": "ÿþ"}\n{"payload": "'),
      Buffer.from('🐇').subarray(0, 3),
      Buffer.from('"}'),
    ])
    const { results, totals } = await post(queue, bytes)
    assert.deepEqual(totals, { published: 1, failed: 2 })
    assert.deepEqual(
      results.map(({ status }) => status),
      ['invalid', 'confirmed', 'invalid'],
    )
    assert.equal((await gateway.get(`/queues/${queue}/messages?ack=auto`).expect(200)).body.messages[0].payload, 'ÿþ')
  })

  it('the result of an invalid line carries its id', async () => {
    const queue = await freshQueue(gateway)
    const { results } = await post(queue, '{"id": "a", "payload": 1, "x": 1}\n{"id": 5}\n{"payload": 1, "id": "c"}\n')
    assert.deepEqual(
      results.map(({ id, status }) => [id, status]),
      [
        ['a', 'invalid'],
        [undefined, 'invalid'],
        ['c', 'confirmed'],
      ],
    )
  })

  it('a line of white space is ignored, whatever its length', async () => {
    const queue = await freshQueue(gateway)
    const { totals } = await post(queue, `${' '.repeat(500)}\n${'\t'.repeat(100)}\r\n{"payload": 1}`)
    assert.deepEqual(totals, { published: 1, failed: 0 })
  })

  it('an endless line is one invalid message', async () => {
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

describe('NDJSON uploads', () => {
  it('an empty upload has no results', async () => {
    const queue = await freshQueue(gateway)
    for (const body of ['', '\n', '\r\n \n']) {
      assert.deepEqual(await post(queue, body), { status: 200, results: [], totals: { published: 0, failed: 0 } })
    }
  })

  it('the result of a line is sent before the next line arrives', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, until, whole } = upload(queue)
    for (let n = 0; n < 5; n++) {
      // The next line waits for the result of this one.
      outgoing.write(`{"payload": ${n}, "id": "line ${n}"}\n`)
      const { index, id, status } = (await until(n + 1))[n]!
      assert.deepEqual([index, id, status], [n, `line ${n}`, 'confirmed'])
      assert.equal(await count(queue), n + 1)
    }
    outgoing.end()
    assert.deepEqual((await whole()).totals, { published: 5, failed: 0 })
  })

  it('an upload to an exchange routes each line by its own key and reports unroutable ones', async () => {
    const [queue, exchange] = [await freshQueue(gateway), freshName('exchange')]
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    gateway.cleanups.push(async () => gateway.delete(`/exchanges/${exchange}`))
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=*.error`).expect(204)
    const { outgoing, whole } = openUpload(`${gateway.url}/exchanges/${exchange}/messages/batch?routing_key=disk.error`)
    outgoing.end('{"payload": 1}\n{"payload": 2, "routing_key": "net.info"}\n{"payload": 3, "routing_key": "net.error"}\n')
    const { results, totals } = await whole()
    assert.deepEqual(
      results.map(({ status, problem }) => [status, problem?.code]),
      [
        ['confirmed', undefined],
        ['unroutable', 'unroutable'],
        ['confirmed', undefined],
      ],
    )
    assert.deepEqual(totals, { published: 2, failed: 1 })
  })

  it('lines after the deletion of the queue are reported as unroutable', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, until, whole } = upload(queue)
    outgoing.write('{"payload": 1}\n')
    await until(1)
    await gateway.delete(`/queues/${queue}`).expect(204)
    outgoing.end('{"payload": 2}\n{"payload": 3}\n')
    const { results, totals } = await whole()
    assert.deepEqual(
      results.map(({ status, problem }) => [status, problem?.code]),
      [
        ['confirmed', undefined],
        ['unroutable', 'queue_not_found'],
        ['unroutable', 'queue_not_found'],
      ],
    )
    assert.deepEqual(totals, { published: 1, failed: 2 })
  })

  it('parallel uploads beyond PUBLISH_BUFFER wait instead of being refused', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    const line = `{"payload": "${'x'.repeat(700_000)}"}\n`
    const uploads = Array.from({ length: 4 }, () => upload(queue))
    const all = uploads.map(async ({ outgoing, whole }) => {
      for (let n = 0; n < 20; n++) if (!outgoing.write(line)) await once(outgoing, 'drain')
      outgoing.end()
      return (await whole()).totals
    })
    for (const totals of await Promise.all(all)) assert.deepEqual(totals, { published: 20, failed: 0 })
  })

  it('thousands of lines are answered in order while the upload continues', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, until, whole } = upload(queue)
    const written = 2500
    let sent = 0
    for (; sent < written; sent++) outgoing.write(`{"payload": ${sent}}\n`)
    await until(written)
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

  it('an aborted upload leaves its confirmed messages, in order and without gaps, and publishes no more', async () => {
    const queue = await freshQueue(gateway)
    const { outgoing, answered, results, until } = upload(queue)
    for (let n = 0; n < 3000; n++) outgoing.write(`{"payload": ${n}}\n`)
    outgoing.write('{"payload": "half of a li')
    await until(500)
    outgoing.destroy()
    ;(await answered).destroy()
    const confirmed = results().length
    await eventually(async () => assert.match((await gateway.get('/metrics')).text, /^gateway_batches_open 0$/m))
    // Once its publishes have ended, the count stays the same and includes every confirmed message.
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

  it('an upload with invalid lines does not affect other publishers or the broker connections', async () => {
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
