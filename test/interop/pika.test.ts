// Messages between the gateway and pika of Debian, in both directions, with every property and header type.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { managementText } from '../support/management.js'
import { type PikaMessage, startPika } from '../support/pika-client.js'

const gateway = await startGateway()
const pika = startPika()
const text = (base64: string) => Buffer.from(base64, 'base64').toString()
const fetched = async (queue: string): Promise<PikaMessage> =>
  eventually(async () => {
    const message = await pika.get(queue)
    assert.ok(message)
    return message
  })
const receive = async (queue: string, query = '') =>
  (await gateway.get(`/queues/${queue}/messages?wait=2s&ack=auto${query}`).expect(200)).body.messages

const properties = {
  content_type: 'text/x-größe',
  content_encoding: 'identity',
  delivery_mode: 2,
  priority: 7,
  correlation_id: 'corr-漢字',
  reply_to: 'answers',
  expiration: '3600000',
  message_id: 'id-1',
  timestamp: 1700000000,
  type: 'order.made',
  user_id: 'guest',
  app_id: 'shop',
}

/** Headers as pika has them, and as the gateway's JSON shows them. */
const headers: [name: string, python: unknown, json: unknown][] = [
  ['string', 'plain', 'plain'],
  ['utf8', 'größe 漢字 🐇', 'größe 漢字 🐇'],
  ['empty', '', ''],
  ['true', true, true],
  ['false', false, false],
  ['null', null, null],
  ['int', { py: 'int', v: '42' }, 42],
  ['negative', { py: 'int', v: '-7' }, -7],
  ['large', { py: 'int', v: '1099511627776' }, 1099511627776],
  ['beyond', { py: 'int', v: '9007199254740993' }, { amqp_type: 'int64', value: '9007199254740993' }],
  ['bytes', { py: 'bytes', v: 'AP/+' }, { amqp_type: 'bytes', value: 'AP/+' }],
  ['decimal', { py: 'decimal', v: '3.14' }, { amqp_type: 'decimal', value: { places: 2, digits: 314 } }],
  ['debt', { py: 'decimal', v: '-0.5' }, { amqp_type: 'decimal', value: { places: 1, digits: -5 } }],
  ['time', { py: 'datetime', v: '1700000000' }, { amqp_type: 'timestamp', value: 1700000000 }],
  ['list', ['a', { py: 'int', v: '1' }, [null, true]], ['a', 1, [null, true]]],
  ['table', { inner: { deep: 'x' }, n: { py: 'int', v: '2' } }, { inner: { deep: 'x' }, n: 2 }],
]
const pythonHeaders = Object.fromEntries(headers.map(([name, python]) => [name, python]))
const jsonHeaders = Object.fromEntries(headers.map(([name, , json]) => [name, json]))

describe('messages published by pika', () => {
  it('a message from pika is received as JSON with every property and header', async () => {
    const queue = await freshQueue(gateway)
    await pika.publish({ routing_key: queue, body: 'hello', properties, headers: pythonHeaders })
    const [message] = await receive(queue)
    assert.equal(message.payload, 'hello')
    const { headers: received, ...rest } = message.properties
    assert.deepEqual(rest, properties)
    assert.deepEqual(received, jsonHeaders)
  })

  it('a raw message from pika has every property and header and can be published again unchanged', async () => {
    const queue = await freshQueue(gateway)
    const back = await freshQueue(gateway)
    await pika.publish({ routing_key: queue, body: 'hello', properties, headers: pythonHeaders })
    const raw = await gateway.get(`/queues/${queue}/messages?format=raw&wait=2s`).buffer(true).parse(bytes).expect(200)
    assert.deepEqual(JSON.parse(raw.headers['amqp-headers']!), jsonHeaders)
    const forwarded = Object.entries(raw.headers).filter(
      ([name]) => /^(amqp-|content-(type|encoding))/.test(name) && !/^amqp-(redelivered|exchange|routing-key)$/.test(name),
    )
    // fetch changes none of these headers; superagent would parse the body by its type.
    const answer = await fetch(`${gateway.url}/queues/${back}/messages`, {
      method: 'POST',
      headers: Object.fromEntries(forwarded.map(([name, value]) => [name, String(value)])),
      body: raw.body as Buffer,
    })
    assert.equal(answer.status, 201, await answer.text())
    const message = await fetched(back)
    assert.deepEqual(message.properties, properties)
    assert.deepEqual(message.headers, pythonHeaders)
  })

  it('a message from pika may have any bytes or none', async () => {
    const queue = await freshQueue(gateway)
    const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    for (const body of [every, Buffer.alloc(0), Buffer.from('größe 漢字')]) {
      await pika.publish({ routing_key: queue, body })
      const raw = await gateway.get(`/queues/${queue}/messages?format=raw&ack=auto&wait=2s`).buffer(true).parse(bytes).expect(200)
      assert.deepEqual(raw.body, body)
      await pika.publish({ routing_key: queue, body })
      const [message] = await receive(queue)
      assert.equal(message.payload_bytes, body.length)
      assert.deepEqual(Buffer.from(message.payload, message.payload_encoding === 'base64' ? 'base64' : 'utf8'), body)
    }
  })

  it('a JSON message from pika keeps its numbers and spacing', async () => {
    const queue = await freshQueue(gateway)
    const body = '{ "id" : 9007199254740993, "sum":1.10, "e": 1e400 }'
    await pika.publish({ routing_key: queue, body, properties: { content_type: 'application/json; charset=utf-8' } })
    const { text: answer } = await gateway.get(`/queues/${queue}/messages?wait=2s`).expect(200)
    assert.ok(answer.includes(`"payload":${body},"payload_encoding":"json"`), answer)
  })

  it('a message from pika without properties is received without properties', async () => {
    const queue = await freshQueue(gateway)
    await pika.publish({ routing_key: queue, body: 'bare' })
    const [message] = await receive(queue)
    assert.deepEqual(message.properties, {})
  })

  it('messages from pika are received in the order of their priority', async () => {
    const queue = await freshQueue(gateway, { arguments: { 'x-max-priority': 9 } })
    for (const priority of [1, 9, 5]) await pika.publish({ routing_key: queue, body: `${priority}`, properties: { priority } })
    const messages = await eventually(async () => {
      const found = (await gateway.get(`/queues/${queue}/messages?max=3&ack=requeue`).expect(200)).body.messages
      assert.equal(found.length, 3)
      return found
    })
    assert.deepEqual(
      messages.map(({ payload }: { payload: string }) => payload),
      ['9', '5', '1'],
    )
  })
})

describe('messages published by the gateway', () => {
  it('a message from the gateway reaches pika with every property and header', async () => {
    const queue = await freshQueue(gateway)
    const http: Record<string, string> = { 'amqp-headers': JSON.stringify(jsonHeaders).replace(/[^\x20-\x7e]/g, unicode) }
    for (const [name, value] of Object.entries(properties)) {
      const header = name.startsWith('content') ? name.replace('_', '-') : `amqp-${name.replace('_', '-')}`
      http[header] = Buffer.from(String(value)).toString('latin1')
    }
    const answer = await fetch(`${gateway.url}/queues/${queue}/messages`, { method: 'POST', headers: http, body: 'hello' })
    assert.equal(answer.status, 201, await answer.text())
    const message = await fetched(queue)
    assert.equal(text(message.body), 'hello')
    assert.deepEqual(message.properties, properties)
    assert.deepEqual(message.headers, pythonHeaders)
  })

  it('numbers in headers are published as integers or doubles as they were written', async () => {
    const queue = await freshQueue(gateway)
    // This version of pika truncates fractions, so the test reads the message from the management API.
    await gateway
      .post(`/queues/${queue}/messages`)
      .set('amqp-headers', '{"i": -1, "f": 1.0, "h": 1.5, "l": -9223372036854775808}')
      .send('x')
      .expect(201)
    const message = await managementText(`queues/%2F/${queue}/get`, { count: 1, ackmode: 'ack_requeue_true', encoding: 'auto' })
    assert.match(message, /"headers":\{"f":1\.0,"h":1\.5,"i":-1,"l":-9223372036854775808\}/)
  })

  it('a message from the gateway is persistent, has a message id and no default content type', async () => {
    const queue = await freshQueue(gateway)
    const answer = await fetch(`${gateway.url}/queues/${queue}/messages`, { method: 'POST', body: Buffer.from([0, 255]) })
    const { message_id } = (await answer.json()) as { message_id: string }
    const message = await fetched(queue)
    assert.deepEqual(message.properties, { delivery_mode: 2, message_id })
    assert.deepEqual(Buffer.from(message.body, 'base64'), Buffer.from([0, 255]))
  })

  it('bindings made over HTTP route messages from the gateway and from pika', async () => {
    const exchange = freshName('topic')
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=${encodeURIComponent('größe.*')}`).expect(204)
    await gateway
      .post(`/exchanges/${exchange}/messages?routing_key=${encodeURIComponent('größe.xl')}`)
      .send('x')
      .expect(201)
    const message = await fetched(queue)
    assert.equal(message.routing_key, 'größe.xl')
    assert.equal(message.exchange, exchange)
    await pika.ack(message)
    await pika.publish({ exchange, routing_key: 'größe.s', body: 'from pika' })
    assert.equal((await receive(queue))[0].payload, 'from pika')
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
  })
})

describe('settlements across clients', () => {
  it('a message acked at the gateway is gone for pika', async () => {
    const queue = await freshQueue(gateway)
    await pika.publish({ routing_key: queue, body: 'task' })
    const [message] = (await gateway.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body.messages
    await gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
    assert.equal(await pika.count(queue), 0)
  })

  it('a message that pika requeued is received from the gateway as redelivered', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('task').expect(201)
    await pika.nack(await fetched(queue), true)
    assert.equal((await receive(queue))[0].redelivered, true)
  })

  it('a message dead-lettered at the gateway reaches pika with its x-death header', async () => {
    const dead = await freshQueue(gateway)
    const queue = await freshQueue(gateway, { arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead } })
    await pika.publish({ routing_key: queue, body: 'task' })
    const [message] = (await gateway.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body.messages
    await gateway.post(`/leases/${message.lease.id}/nack`).send({ requeue: false }).expect(204)
    const { headers: death } = await fetched(dead)
    assert.equal((death['x-death'] as { reason: string }[])[0]!.reason, 'rejected')
  })

  it('a message expires after its expiration', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).set('amqp-expiration', '50').send('x').expect(201)
    await eventually(async () => assert.equal(await pika.count(queue), 0))
    assert.equal(await pika.get(queue), null)
  })
})

describe('the size limit of messages', () => {
  it('a message of exactly 16 MiB reaches pika and one byte more is refused', async () => {
    const queue = await freshQueue(gateway)
    const limit = 16 * 1024 * 1024
    const send = (size: number) =>
      fetch(`${gateway.url}/queues/${queue}/messages`, { method: 'POST', body: Buffer.alloc(size, 'x') })
    assert.equal((await send(limit)).status, 201)
    const refused = await send(limit + 1)
    assert.equal(refused.status, 413)
    assert.equal(((await refused.json()) as { code: string }).code, 'message_too_large')
    const message = await fetched(queue)
    assert.equal(Buffer.from(message.body, 'base64').length, limit)
    assert.equal(await pika.count(queue), 0)
  })
})

/** A superagent parser that keeps the bytes of any content type. */
function bytes(response: NodeJS.EventEmitter, done: (error: Error | null, body: Buffer) => void): void {
  const chunks: Buffer[] = []
  response.on('data', (chunk: Buffer | string) => chunks.push(Buffer.from(chunk)))
  response.on('end', () => done(null, Buffer.concat(chunks)))
}

function unicode(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
