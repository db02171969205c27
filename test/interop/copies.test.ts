// Messages that the gateway publishes again, as bytes: what was published is compared with what comes back, frame by frame.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { FrameClient, type WireMessage } from '../support/amqp-frames.js'
import { startReceiver } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, freshQueue, startGateway } from '../support/gateway.js'
import { ended, type Received } from '../support/redrive.js'
import { FIELDS, fieldsIn, headersIn, LARGE_FIELDS, PROPERTIES, properties, withHeaders } from '../support/wire-samples.js'

const gateway = await startGateway({ PUSH_ALLOWED_NETWORKS: '127.0.0.0/8' })
const frames = await FrameClient.connect(AMQP_URL)
after(() => frames.close())

const KEY = 'eu.größe'
const all = FIELDS.map(([, bytes]) => bytes)
/** Every field and every property alone, all of them together, and none. */
const SAMPLES: readonly (readonly [what: string, properties: Buffer])[] = [
  ...FIELDS.map(([what, bytes]) => [what, properties([bytes], [])] as const),
  ...LARGE_FIELDS.map(([what, bytes]) => [what, properties([bytes])] as const),
  ...PROPERTIES.map((property) => [property[0], properties(undefined, [property])] as const),
  ['everything', properties(all)],
  ['nothing', properties(undefined, [])],
]

/** An exchange that routes everything to the queue. */
async function exchangeFor(queue: string): Promise<string> {
  const exchange = freshName('exchange')
  await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
  gateway.cleanups.push(async () => gateway.delete(`/exchanges/${exchange}`))
  await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=%23`).expect(204)
  return exchange
}

/** Publishes the samples; the body of each is its place in the list. */
async function publishSamples(exchange: string, routingKey: string, samples = SAMPLES): Promise<void> {
  for (const [index, [, encoded]] of samples.entries())
    await frames.publish({ exchange, routingKey, properties: encoded, body: Buffer.from(`${index}`) })
}

/** Receives that many messages of the queue. */
async function receive(queue: string, count: number): Promise<Received[]> {
  const received: never[] = []
  while (received.length < count) {
    const { messages } = (await gateway.get(`/queues/${queue}/messages?max=1000&wait=10s`).expect(200)).body
    received.push(...(messages as never[]))
  }
  return received
}

async function settle(messages: { lease: { id: string } }[], nack: object): Promise<void> {
  const body = { nack: messages.map(({ lease }) => ({ id: lease.id, ...nack })) }
  assert.equal((await gateway.post('/leases/settle').send(body).expect(200)).body.failed, 0)
}

/** Headers that RabbitMQ and the gateway write. */
const isAdded = (name: string): boolean => /^x-(gateway-|delivery-count$|acquired-count$)/.test(name)

/** The properties without added headers. */
function original(encoded: Buffer): Buffer {
  const headers = headersIn(encoded)
  if (!headers) return encoded
  const kept = fieldsIn(headers).filter(({ name }) => !isAdded(name))
  return withHeaders(encoded, kept.length > 0 ? Buffer.concat(kept.map(({ bytes }) => bytes)) : undefined)
}

/**
 * What RabbitMQ makes of headers when it adds one of its own, as quorum queues, dead-lettering and all queues of RabbitMQ 4 do:
 * it sorts them, keeps one of each name, and writes L as l. Types and values stay.
 */
function rewritten(encoded: Buffer): Buffer {
  const headers = headersIn(encoded)
  if (!headers) return encoded
  const byName = new Map<string, Buffer>()
  for (const { name, bytes } of fieldsIn(headers)) if (!byName.has(name)) byName.set(name, asRewritten(name, bytes))
  const sorted = [...byName].sort(([one], [other]) => (one < other ? -1 : 1))
  return withHeaders(encoded, Buffer.concat(sorted.map(([, bytes]) => bytes)))
}

function asRewritten(name: string, bytes: Buffer): Buffer {
  const tagAt = 1 + name.length
  return bytes[tagAt] === 0x4c ? Buffer.concat([bytes.subarray(0, tagAt), Buffer.from('l'), bytes.subarray(tagAt + 1)]) : bytes
}

const brokerVersion = () => gateway.app.services.vhosts.default.topology.connection.brokerVersion

/**
 * Gets the samples from the queue, and compares each bit.
 * @param options.rewrites whether RabbitMQ rewrites headers there, or on the way
 */
async function assertUnchanged(
  queue: string,
  key: string,
  { samples = SAMPLES, rewrites = false }: { samples?: typeof SAMPLES; rewrites?: boolean } = {},
): Promise<void> {
  const form = rewrites || !brokerVersion().startsWith('3.') ? rewritten : (encoded: Buffer) => encoded
  const seen = new Set<string>()
  while (seen.size < samples.length) {
    const message = await eventually(async (): Promise<WireMessage> => {
      const next = await frames.get(queue)
      assert.ok(next, `${seen.size} of ${samples.length} are back`)
      return next
    })
    const index = message.body.toString()
    const [what, sent] = samples[Number(index)]!
    assert.equal(form(original(message.properties)).toString('hex'), form(sent).toString('hex'), what)
    assert.equal(message.routingKey, key, what)
    for (const { name, bytes } of fieldsIn(headersIn(message.properties) ?? Buffer.alloc(0))) {
      if (name.startsWith('x-gateway-')) assert.match(String.fromCharCode(bytes[1 + name.length]!), /[SIl]/, name)
    }
    seen.add(index)
  }
}

describe('a copy as bytes', () => {
  for (const type of ['classic', 'quorum']) {
    it(`messages nacked with a delay, twice, come back to their ${type} queue bit for bit`, async () => {
      const queue = await freshQueue(gateway, { type })
      const exchange = await exchangeFor(queue)
      await publishSamples(exchange, KEY)
      await settle(await receive(queue, SAMPLES.length), { delay: '100ms' })
      const again = await receive(queue, SAMPLES.length)
      for (const { payload, ...message } of again) {
        assert.deepEqual([message.exchange, message.routing_key], [exchange, KEY], SAMPLES[Number(payload)]![0])
      }
      await settle(again, { delay: '100ms' })
      await assertUnchanged(queue, KEY, { rewrites: type === 'quorum' })
    })

    it(`messages that a retry policy delays come back to their ${type} queue bit for bit`, async () => {
      const queue = await freshQueue(gateway, { type })
      await gateway
        .put(`/queues/${queue}/retry-policy`)
        .send({ backoff: { initial: '100ms' } })
        .expect(201)
      await publishSamples('', queue)
      await settle(await receive(queue, SAMPLES.length), {})
      await assertUnchanged(queue, queue, { rewrites: type === 'quorum' })
      await gateway.delete(`/queues/${queue}/retry-policy`).expect(204)
    })

    it(`dead letters are redriven to their ${type} queue, and to another, bit for bit`, async () => {
      const [queue, other] = [freshName('queue'), await freshQueue(gateway, { type })]
      await gateway.put(`/queues/${queue}`).send({ type, dead_letter: true }).expect(201)
      for (const name of [queue, `${queue}.dead`]) gateway.cleanups.push(async () => gateway.delete(`/queues/${name}`))
      const exchange = await exchangeFor(queue)
      for (const to of [undefined, other]) {
        await publishSamples(exchange, KEY)
        await settle(await receive(queue, SAMPLES.length), { requeue: false })
        await eventually(async () =>
          assert.equal((await gateway.get(`/queues/${queue}.dead`)).body.message_count, SAMPLES.length),
        )
        const { body } = await gateway
          .post(`/queues/${queue}.dead/redrive`)
          .send(to ? { to } : {})
          .expect(202)
        const { moved, last_error: reason } = await ended(gateway, body.id)
        assert.equal(moved, SAMPLES.length, reason)
        await assertUnchanged(to ?? queue, KEY, { rewrites: true })
      }
    })
  }

  it('messages whose push failed come back to their queue bit for bit', async () => {
    const queue = await freshQueue(gateway)
    const samples = SAMPLES.slice(-2)
    const endpoint = await startReceiver(500)
    await publishSamples('', queue, samples)
    const name = freshName('subscription')
    const retry = { max_attempts: 5, backoff: { initial: '3s', jitter: 0 } }
    const subscription = { queue, url: endpoint.url, format: 'json', retry }
    await gateway.put(`/subscriptions/${name}`).send(subscription).expect(201)
    await endpoint.many(samples.length)
    await eventually(async () => assert.equal((await gateway.get(`/subscriptions/${name}`)).body.in_flight, 0))
    await gateway.delete(`/subscriptions/${name}`).expect(204)
    await assertUnchanged(queue, queue, { samples })
  })

  it('a lease that runs out under a retry policy gives its message back bit for bit', async () => {
    const queue = await freshQueue(gateway)
    await gateway
      .put(`/queues/${queue}/retry-policy`)
      .send({ backoff: { initial: '100ms' } })
      .expect(201)
    const samples = SAMPLES.slice(-2)
    await publishSamples(await exchangeFor(queue), KEY, samples)
    await gateway.get(`/queues/${queue}/messages?max=2&wait=5s&lease=1s`).expect(200)
    await assertUnchanged(queue, KEY, { samples })
    await gateway.delete(`/queues/${queue}/retry-policy`).expect(204)
  })
})
