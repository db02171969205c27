// Receiving: no message is held back, taken beyond the response, or lost when a client disconnects.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()
const publish = async (queue: string, ...payloads: string[]) => {
  for (const payload of payloads) await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(payload).expect(201)
}
const receive = async (queue: string, query = '') =>
  (await gateway.get(`/queues/${queue}/messages${query}`).expect(200)).body.messages
const payloads = (messages: { payload: string }[]) => messages.map(({ payload }) => payload)
const waiting = () => gateway.app.services.receiver.waiting

/** Starts a receive and returns a function that disconnects its client. */
function abandonable(path: string) {
  const outgoing = request(`${gateway.url}${path}`)
  outgoing.on('error', () => undefined)
  outgoing.end()
  return () => outgoing.destroy()
}

for (const type of ['classic', 'quorum'] as const) {
  describe(`receiving from a ${type} queue`, () => {
    it(`a receive from an empty ${type} queue is answered at once with an empty list`, async () => {
      const queue = await freshQueue(gateway, { type })
      assert.deepEqual(await receive(queue), [])
    })

    it(`a receive from a ${type} queue takes at most max messages, in order`, async () => {
      const queue = await freshQueue(gateway, { type })
      await publish(queue, 'a', 'b', 'c', 'd')
      assert.deepEqual(payloads(await receive(queue, '?max=3&ack=auto')), ['a', 'b', 'c'])
      await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 1))
      assert.deepEqual(payloads(await receive(queue, '?max=3&ack=auto')), ['d'])
    })

    it(`ack=requeue shows the messages of a ${type} queue and leaves them in their order`, async () => {
      const queue = await freshQueue(gateway, { type })
      await publish(queue, 'a', 'b', 'c')
      assert.deepEqual(payloads(await receive(queue, '?max=2&ack=requeue')), ['a', 'b'])
      const again = await eventually(async () => {
        const found = await receive(queue, '?max=3&ack=requeue')
        assert.equal(found.length, 3)
        return found
      })
      assert.deepEqual(payloads(again), ['a', 'b', 'c'])
      assert.equal('lease' in again[0], false)
    })

    it(`a waiting receive from a ${type} queue is answered at the first message`, async () => {
      const queue = await freshQueue(gateway, { type })
      const poll = receive(queue, '?wait=20s&max=10')
      await eventually(() => assert.equal(waiting(), 1))
      const from = Date.now()
      await publish(queue, 'now')
      assert.deepEqual(payloads(await poll), ['now'])
      assert.ok(Date.now() - from < 5000)
    })

    it(`a client that disconnects while it waits takes no message from a ${type} queue`, async () => {
      const queue = await freshQueue(gateway, { type })
      const leave = abandonable(`/queues/${queue}/messages?wait=60s`)
      await eventually(() => assert.equal(waiting(), 1))
      leave()
      await eventually(() => assert.equal(waiting(), 0))
      await publish(queue, 'kept')
      const [message] = await receive(queue, '?wait=2s')
      assert.equal(message.payload, 'kept')
      assert.equal(message.redelivered, false)
    })
  })
}

describe('receiving', () => {
  it('the messages of a client that disconnects during the response go back to the queue', async () => {
    const queue = await freshQueue(gateway)
    const big = 'x'.repeat(1024 * 1024)
    const before = gateway.app.services.leases.open
    for (let i = 0; i < 12; i++) await publish(queue, big)
    // The client reads only the beginning of the response, so that the gateway cannot write the rest.
    await new Promise<void>((resolve, reject) => {
      const outgoing = request(`${gateway.url}/queues/${queue}/messages?max=12&lease=10m`, (response) => {
        response.once('readable', () => {
          response.destroy()
          resolve()
        })
      })
      outgoing.on('error', reject)
      outgoing.end()
    })
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 12), 5000)
    assert.equal(gateway.app.services.leases.open, before)
  })

  it('a receive stops at MAX_RESPONSE_SIZE and leaves the other messages in order', async () => {
    const small = await startGateway({ MAX_RESPONSE_SIZE: '1KiB' })
    const queue = await freshQueue(gateway)
    await publish(queue, `1${'x'.repeat(600)}`, `2${'x'.repeat(600)}`, `3${'x'.repeat(600)}`)
    const first = (await small.get(`/queues/${queue}/messages?max=3&ack=auto`).expect(200)).body.messages
    assert.deepEqual(
      first.map(({ payload }: { payload: string }) => payload[0]),
      ['1'],
    )
    assert.deepEqual(
      (await receive(queue, '?max=3&wait=2s')).map(({ payload }: { payload: string }) => payload[0]),
      ['2', '3'],
    )
  })

  it('a receive is answered with 404 if the queue does not exist or is deleted while it waits', async () => {
    const { body } = await gateway.get(`/queues/${freshName()}/messages`).expect(404)
    assert.equal(body.code, 'queue_not_found')
    const queue = await freshQueue(gateway)
    const poll = gateway.get(`/queues/${queue}/messages?wait=20s`).expect(404)
    const answered = poll.then((response) => response)
    await eventually(() => assert.equal(waiting(), 1))
    await gateway.delete(`/queues/${queue}`).expect(204)
    assert.equal((await answered).body.code, 'queue_not_found')
  })

  it('a receive from a stream and a purge of a stream are answered with 409', async () => {
    const queue = await freshQueue(gateway, { type: 'stream' })
    assert.equal((await gateway.get(`/queues/${queue}/messages`).expect(409)).body.code, 'stream_queue')
    assert.equal((await gateway.delete(`/queues/${queue}/messages`).expect(409)).body.code, 'stream_queue')
    await publish(queue, 'x')
    assert.equal((await gateway.get(`/queues/${queue}/messages?wait=1s`).expect(409)).body.code, 'stream_queue')
  })

  it('a raw response has the bytes as its body and the properties in headers', async () => {
    const queue = await freshQueue(gateway)
    const bytes = Buffer.from([0, 1, 2, 253, 254, 255])
    await gateway
      .post(`/queues/${queue}/messages`)
      .set({
        'content-type': 'image/png',
        'amqp-priority': '3',
        'amqp-type': 'thumb',
        'amqp-header-tenant': 'a',
        'amqp-headers': '{"Size": 7}',
      })
      .send(bytes)
      .expect(201)
    const raw = await gateway.get(`/queues/${queue}/messages`).set('accept', 'application/octet-stream').buffer(true).expect(200)
    assert.deepEqual(raw.body, bytes)
    assert.equal(raw.headers['content-type'], 'image/png')
    assert.equal(raw.headers['amqp-priority'], '3')
    assert.equal(raw.headers['amqp-type'], 'thumb')
    assert.equal(raw.headers['amqp-header-tenant'], 'a')
    assert.deepEqual(JSON.parse(raw.headers['amqp-headers']!), { Size: 7, tenant: 'a' })
    assert.equal(raw.headers['amqp-redelivered'], 'false')
    assert.equal(raw.headers['amqp-routing-key'], queue)
    assert.equal(raw.headers['location'], `/leases/${raw.headers['lease-id']}`)
    assert.ok(Date.parse(raw.headers['lease-expires']!) > Date.now())
    await gateway.post(`${raw.headers['location']}/ack`).expect(204)
    await gateway.get(`/queues/${queue}/messages?format=raw`).expect(204)
  })

  it('a message whose headers do not fit a raw response is answered with 406 and stays in the queue', async () => {
    const queue = await freshQueue(gateway)
    await gateway
      .post(`/queues/${queue}/messages`)
      .set('amqp-headers', JSON.stringify({ big: 'x'.repeat(9000) }))
      .send('x')
      .expect(201)
    assert.equal((await gateway.get(`/queues/${queue}/messages?format=raw`).expect(406)).body.code, 'not_acceptable')
    const [message] = await receive(queue, '?wait=2s')
    assert.equal(message.properties.headers.big.length, 9000)
  })

  it('JSON payloads are received as written, and other bytes as base64', async () => {
    const queue = await freshQueue(gateway)
    const text = '{"id": 9007199254740993, "price": 1.10,\n "big": 1e400}'
    await gateway.post(`/queues/${queue}/messages`).set('content-type', 'application/json').send(text).expect(201)
    const { text: answer } = await gateway.get(`/queues/${queue}/messages?ack=requeue`).expect(200)
    assert.ok(answer.includes('{"id": 9007199254740993, "price": 1.10,  "big": 1e400}'))
    const [forced] = await receive(queue, '?encoding=base64')
    assert.equal(Buffer.from(forced.payload, 'base64').toString(), text)
    await fetch(`${gateway.url}/queues/${queue}/messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: Buffer.from([0xff]),
    })
    const [bytes] = await receive(queue)
    assert.equal(bytes.payload_encoding, 'base64')
  })

  it('two thousand waiting receives each get one message', async () => {
    const queue = await freshQueue(gateway)
    const polls = Array.from({ length: 2000 }, () => fetch(`${gateway.url}/queues/${queue}/messages?wait=60s&ack=auto`))
    await eventually(() => assert.equal(waiting(), 2000), 30_000)
    const messages = Array.from({ length: 2000 }, (_, n) => ({ payload: n }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    const answers = await Promise.all(polls.map(async (poll) => (await (await poll).json()) as { messages: unknown[] }))
    assert.ok(answers.every(({ messages }) => messages.length === 1))
  })
})
