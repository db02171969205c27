// Receives of many messages: they collect what is ready, in the order of the queue, and take no message that they do not return.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { startPika } from '../support/pika-client.js'

const COUNT = 3000
const gateway = await startGateway()
const pika = startPika()

interface Received {
  payload: number
  redelivered: boolean
  delivery_count?: number
}
interface Answer {
  messages: Received[]
  more?: true
}
const receive = async (queue: string, order: object): Promise<Answer> =>
  (await gateway.post(`/queues/${queue}/messages/receive`).send(order).expect(200)).body
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n)
const payloads = ({ messages }: Answer) => messages.map(({ payload }) => payload)
const wasDelivered = ({ redelivered, delivery_count: count = 1 }: Received) => redelivered || count > 1
const text = (base64: string) => Buffer.from(base64, 'base64').toString()

async function filled(type: string, count: number): Promise<string> {
  const queue = await freshQueue(gateway, { type })
  const messages = numbers(1, count).map((payload) => ({ payload }))
  await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  assert.equal(await pika.count(queue), count)
  return queue
}

for (const type of ['classic', 'quorum'] as const) {
  describe(`receiving many messages from a ${type} queue`, () => {
    for (const wait of ['0s', '5s']) {
      it(`max=1000 and wait=${wait} drain ${COUNT} messages of a ${type} queue in at most four answers, in order`, async () => {
        const queue = await filled(type, COUNT)
        const answers: Answer[] = []
        const drained = () => answers.flatMap(({ messages }) => messages)
        while (drained().length < COUNT && answers.length < 4)
          answers.push(await receive(queue, { ack: 'auto', max: 1000, wait }))
        assert.deepEqual(answers.flatMap(payloads), numbers(1, COUNT))
        assert.equal(drained().filter(wasDelivered).length, 0)
        assert.equal(await pika.count(queue), 0)
        assert.deepEqual(await receive(queue, { max: 1000 }), { messages: [] })
      })
    }

    it(`max from 1 to 300 takes as many messages of a ${type} queue as it asks for, and leaves the rest in place`, async () => {
      const queue = await filled(type, COUNT)
      let next = 1
      for (const max of [1, 2, 10, 31, 32, 33, 64, 100, 200, 300]) {
        assert.deepEqual(payloads(await receive(queue, { ack: 'auto', max })), numbers(next, next + max - 1))
        next += max
        assert.equal(await pika.count(queue), COUNT - next + 1)
      }
      // Another client finds the next message at the head, and no sign that it was ever taken.
      const head = await pika.get(queue)
      assert.deepEqual([text(head!.body), head!.redelivered], [String(next), false])
    })

    it(`looks at 1000 messages of a ${type} queue leave them in their order`, async () => {
      const queue = await filled(type, 1500)
      for (let look = 0; look < 3; look++) {
        assert.deepEqual(payloads(await receive(queue, { ack: 'requeue', max: 1000 })), numbers(1, 1000))
        await eventually(async () => assert.equal(await pika.count(queue), 1500))
      }
    })

    it(`receives that poll a ${type} queue take messages in the order in which another client publishes them`, async () => {
      const queue = await freshQueue(gateway, { type })
      const got: Received[] = []
      const last = 100
      const publishing = (async () => {
        for (const n of numbers(1, last)) {
          await pika.publish({ routing_key: queue, body: String(n), properties: { content_type: 'application/json' } })
          await pause(Math.random() * 10)
        }
      })()
      for (let turn = 0; got.length < last; turn++)
        got.push(...(await receive(queue, { ack: 'auto', max: 1 + (turn % 40) })).messages)
      await publishing
      assert.deepEqual(
        got.map(({ payload }) => payload),
        numbers(1, last),
      )
      assert.equal(got.filter(wasDelivered).length, 0)
    })

    it(`an answer that MAX_RESPONSE_SIZE ends has "more", and the next one continues a ${type} queue in order`, async () => {
      const small = await startGateway({ MAX_RESPONSE_SIZE: '10KiB' })
      const queue = await freshQueue(gateway, { type })
      const sizes = numbers(1, 200).map((n) => (n % 50 === 0 ? 4000 : 100))
      const messages = sizes.map((size, n) => ({ payload: String(n + 1).padEnd(size) }))
      await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
      const got: number[] = []
      for (let isLast = false; !isLast; ) {
        const response = await small.post(`/queues/${queue}/messages/receive?ack=auto&max=1000`).expect(200)
        const answer: { messages: { payload: string }[]; more?: true } = response.body
        const bytes = answer.messages.reduce((sum, { payload }) => sum + payload.length, 0)
        assert.ok(bytes <= 10 * 1024 && answer.messages.length > 0, `${bytes} bytes`)
        got.push(...answer.messages.map(({ payload }) => Number(payload)))
        isLast = answer.more !== true
      }
      assert.deepEqual(got, numbers(1, 200))
    })
  })
}

describe('POST /queues/{queue}/messages/receive', () => {
  it('a receive by POST takes its parameters from the query, from the body, or from both', async () => {
    const queue = await filled('classic', 5)
    await pika.publish({ routing_key: queue, body: 'raw', properties: { content_type: 'text/plain' } })
    const path = `/queues/${queue}/messages/receive`
    assert.deepEqual(payloads((await gateway.post(`${path}?max=2&ack=auto`).expect(200)).body), [1, 2])
    assert.deepEqual(payloads(await receive(queue, { max: 2, ack: 'auto', wait: 1 })), [3, 4])
    const both = (await gateway.post(`${path}?lease=5m`).send({ encoding: 'base64' }).expect(200)).body.messages[0]
    assert.equal(text(both.payload), '5')
    assert.ok(Date.parse(both.lease.expires_at) > Date.now() + 240_000)
    const raw = await gateway.post(`${path}?format=raw`).buffer(true).expect(200)
    assert.equal(raw.text, 'raw')
    await gateway.post(`/leases/${raw.headers['lease-id']}/ack`).expect(204)
    await gateway.post(path).set('accept', 'application/octet-stream').send({}).expect(204)
    const vhost = await gateway.post(`/vhosts/%2F${path}`).expect(200)
    assert.deepEqual(vhost.body, { messages: [] })
  })

  it('a receive by POST refuses a parameter that is given twice, unknown or wrong, and says where it is', async () => {
    const queue = await filled('classic', 1)
    const refused: [query: string, body: object, pointer: string][] = [
      ['?max=2', { max: 2 }, '/body/max'],
      ['?max=1&max=2', {}, '/query/max'],
      ['', { max: '2' }, '/body/max'],
      ['', { wait: '61s' }, '/body/wait'],
      ['?wait=61s', {}, '/query/wait'],
      ['', { lease: '1ms' }, '/body/lease'],
      ['', { format: 'raw', max: 2 }, '/body/max'],
      ['', { colour: 'red' }, '/body/colour'],
    ]
    for (const [query, body, pointer] of refused) {
      const { body: problem } = await gateway.post(`/queues/${queue}/messages/receive${query}`).send(body).expect(400)
      assert.deepEqual([problem.code, problem.errors[0].pointer], ['invalid_request', pointer])
    }
    assert.equal(await pika.count(queue), 1)
  })
})
