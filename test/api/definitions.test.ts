// Definitions shared by several instances through a RabbitMQ stream.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { freshVhost } from '../support/vhost.js'

const QUEUE = 'gateway.definitions'

const vhost = await freshVhost('definitions')
const one = await startGateway(vhost.env)
const two = await startGateway(vhost.env)
one.cleanups.push(vhost.delete)
const here = one.app.services.definitions
const there = two.app.services.definitions
const queues = async () => (await management<{ name: string }[]>(`queues/${vhost.name}`)).map(({ name }) => name)

describe('definitions', () => {
  it('the stream of definitions is not declared before the first definition', async () => {
    await eventually(() => assert.ok(here.known && there.known))
    assert.ok(!(await queues()).includes(QUEUE))
    assert.deepEqual(here.list('colour'), [])
  })

  it('a definition reaches the other instance within a second', async () => {
    const seen: unknown[] = []
    there.watch('colour', (key, entry) => seen.push([key, entry?.value]))
    await here.put('colour', 'sky', 'blue')
    assert.equal(here.get('colour', 'sky')?.value, 'blue')
    await eventually(() => assert.equal(there.get('colour', 'sky')?.value, 'blue'), 3000)
    for (let n = 0; n < 20; n++) {
      const from = Date.now()
      await here.put('colour', 'sky', n)
      await eventually(() => assert.equal(there.get('colour', 'sky')?.value, n), 1000)
      assert.ok(Date.now() - from < 1000)
    }
    assert.equal(await there.delete('colour', 'sky'), true)
    await eventually(() => assert.equal(here.get('colour', 'sky'), undefined))
    assert.equal(await here.delete('colour', 'sky'), false)
    assert.deepEqual(seen[0], ['sky', 'blue'])
    assert.deepEqual(seen.at(-1), ['sky', undefined])
  })

  it('only one of several conditional changes with the same expected revision succeeds', async () => {
    const wins = await Promise.all([here, there, here, there].map((at, n) => at.put('task', 'owner', n, { expected: 0 })))
    const winners = wins.filter((entry) => entry !== undefined)
    assert.equal(winners.length, 1)
    const [winner] = winners
    await eventually(() => assert.deepEqual(here.get('task', 'owner'), winner))
    await eventually(() => assert.deepEqual(there.get('task', 'owner'), winner))
    assert.ok(await there.put('task', 'owner', 'next', { expected: winner!.revision }))
    assert.equal(await here.put('task', 'owner', 'late', { expected: winner!.revision }), undefined)
  })

  it('a broadcast reaches the other instance and not its sender', async () => {
    await here.broadcast('load', { busy: 3 })
    await eventually(() => assert.deepEqual(there.lastBroadcasts('load', 10_000)[0]?.value, { busy: 3 }))
    assert.deepEqual(here.lastBroadcasts('load', 10_000), [], 'the sender ignores its own broadcast')
  })

  it('an instance has the definitions after it starts and after it reconnects', async () => {
    await here.put('colour', 'grass', 'green')
    const three = await startGateway(vhost.env)
    await eventually(() => assert.equal(three.app.services.definitions.get('colour', 'grass')?.value, 'green'))
    for (const { connection } of one.app.services.vhosts.default.connections()) connection.destroy('a test')
    await there.put('colour', 'grass', 'brown')
    await eventually(() => assert.equal(here.get('colour', 'grass')?.value, 'brown'))
    await eventually(() => here.put('colour', 'snow', 'white'))
    await eventually(() => assert.equal(there.get('colour', 'snow')?.value, 'white'))
    await three.close()
  })

  it('the instances restore the definitions from memory after RabbitMQ lost the stream', async () => {
    await eventually(() => assert.equal(here.get('colour', 'snow')?.value, 'white'))
    await management(`queues/${vhost.name}/${QUEUE}`, { method: 'DELETE' })
    await eventually(async () => assert.ok((await queues()).includes(QUEUE)))
    const four = await startGateway(vhost.env)
    await eventually(() => assert.equal(four.app.services.definitions.get('colour', 'snow')?.value, 'white'))
    await eventually(() => here.put('colour', 'snow', 'grey'))
    await eventually(() => assert.equal(four.app.services.definitions.get('colour', 'snow')?.value, 'grey'))
    await four.close()
  })

  it('definitions and broadcasts both lead to snapshots, which bound the stream', async () => {
    const text = 'x'.repeat(20_000)
    const snapshots = async () => {
      const { messages } = await consume(QUEUE)
      return messages.filter((message) => message.includes('"type":"snapshot"')).length
    }
    for (let n = 0; n < 130; n++) await here.put('colour', `c${n % 10}`, `${n} ${text}`)
    await eventually(async () => assert.ok((await snapshots()) >= 2))
    await eventually(() => assert.match(String(there.get('colour', 'c9')?.value), /^129 /))
    // Broadcasts take space in the stream as well.
    const before = await snapshots()
    for (let n = 0; n < 130; n++) await here.broadcast('weather', `${n} ${text}`)
    await eventually(async () => assert.ok((await snapshots()) > before))
  })
})

/** All records, read over AMQP, since the gateway refuses access to them. */
async function consume(queue: string): Promise<{ messages: string[] }> {
  const { connect } = await import('../../src/amqp/wire/amqplib.js')
  const connection = await connect(vhost.env.AMQP_URL)
  try {
    const channel = await connection.createChannel()
    await channel.prefetch(100)
    const messages: string[] = []
    const consumer = (message: { content: Buffer } | null) => {
      if (!message) return
      messages.push(message.content.toString())
      channel.ack(message as Parameters<typeof channel.ack>[0])
    }
    await channel.consume(queue, consumer, { arguments: { 'x-stream-offset': 'first' } })
    await eventually(() => assert.ok(messages.length >= 130))
    return { messages }
  } finally {
    await connection.close()
  }
}

describe('access to the stream of definitions', () => {
  it('clients cannot read, write, bind or change the stream of definitions', async () => {
    const json = { 'content-type': 'application/json' }
    for (const [method, path, body] of [
      ['post', `/queues/${QUEUE}/messages`, 'x'],
      ['get', `/queues/${QUEUE}/messages`],
      ['get', `/queues/${QUEUE}/stream?offset=first`],
      ['post', `/queues/${QUEUE}/rpc`, 'x'],
      ['put', `/queues/${QUEUE}`, '{}'],
      ['get', `/queues/${QUEUE}`],
      ['delete', `/queues/${QUEUE}`],
      ['delete', `/queues/${QUEUE}/messages`],
      ['post', `/exchanges/amq.default/messages?routing_key=${QUEUE}`, 'x'],
      ['post', `/exchanges/amq.topic/messages?routing_key=${QUEUE}`, 'x'],
      ['post', `/exchanges/amq.default/rpc?routing_key=${QUEUE}`, 'x'],
      ['put', `/exchanges/amq.topic/bindings/queues/${QUEUE}?routing_key=%23`],
      ['put', `/queues/q`, JSON.stringify({ arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': QUEUE } })],
    ] as const) {
      const call = one.call(method, path)
      const response = await (body === '{}' || body?.startsWith('{"arg')
        ? call.set(json).send(body)
        : body
          ? call.send(body)
          : call)
      assert.equal(response.body.code, 'access_refused', `${method} ${path}: ${response.text}`)
    }
    const messages = [
      { payload: 1, routing_key: QUEUE },
      { payload: 2, properties: { headers: { CC: [QUEUE] } } },
    ]
    const { body } = await one.post(`/exchanges/amq.topic/messages/batch`).send({ messages }).expect(200)
    assert.deepEqual(
      body.results.map(({ problem }: { problem: { code: string } }) => problem.code),
      ['access_refused', 'access_refused'],
    )
    const reply = await one.post('/exchanges/amq.topic/messages').set('amqp-reply-to', QUEUE).send('x')
    assert.equal(reply.body.code, 'invalid_message')
  })
})
