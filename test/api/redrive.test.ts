// Redriving: messages move back to the queue where they died, or to another target; the others stay unchanged.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import {
  begin,
  count,
  ended,
  kill,
  numbers,
  pair,
  publishAll,
  type Received,
  redriven,
  takeAll,
  texts,
} from '../support/redrive.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

const vhost = await freshVhost('redrive')
const gateway = await startGateway(vhost.env)
const other = await startGateway(vhost.env)
deleteWith(gateway, vhost)

const counts = ({ state, moved, matched, skipped, failed, total }: Record<string, unknown>) => ({
  state,
  moved,
  matched,
  skipped,
  failed,
  total,
})
const peek = async (queue: string): Promise<Received[]> =>
  (await gateway.get(`/queues/${queue}/messages?max=1000&ack=requeue`).expect(200)).body.messages

for (const type of ['classic', 'quorum']) {
  describe(`redriving a ${type} queue`, () => {
    it(`a redrive of a ${type} queue moves messages unchanged to the queue where they died`, async () => {
      const both = await pair(gateway, type)
      const { queue, dead } = both
      await gateway
        .post(`/queues/${queue}/messages`)
        .set({ 'amqp-headers': '{"x-tenant":"a","n":1}', 'amqp-type': 't', 'amqp-message-id': 'm1', 'amqp-priority': '3' })
        .type('text/plain')
        .send('first')
        .expect(201)
      const [{ lease }] = (await gateway.get(`/queues/${queue}/messages?wait=5s`).expect(200)).body.messages
      await gateway.post(`/leases/${lease.id}/nack`).send({ requeue: false }).expect(204)
      await eventually(async () => assert.equal(await count(gateway, dead), 1))
      await kill(gateway, both, ['second', 'third'])
      const task = await redriven(gateway, dead)
      assert.deepEqual(counts(task as never), { state: 'done', moved: 3, matched: 3, skipped: 0, failed: 0, total: 3 })
      const back = await takeAll(gateway, queue, 3)
      // From RabbitMQ 4.3 on quorum queues deliver by priority, and a message without one comes before priority 3.
      back.sort((a, b) => (a.payload < b.payload ? -1 : 1))
      assert.deepEqual(texts(back), ['first', 'second', 'third'])
      const { delivery_mode, ...properties } = back[0]!.properties
      assert.equal(delivery_mode, 2)
      assert.deepEqual(properties, {
        content_type: 'text/plain',
        priority: 3,
        type: 't',
        message_id: 'm1',
        headers: { 'x-tenant': 'a', n: 1 },
      })
      assert.equal(back[0]!.deaths, undefined)
      assert.equal(await count(gateway, dead), 0)
    })

    it(`a redrive of thousands of messages in a ${type} queue loses and duplicates none`, async () => {
      const both = await pair(gateway, type)
      const all = numbers(2000)
      await kill(gateway, both, all)
      const from = Date.now()
      const task = await redriven(gateway, both.dead)
      assert.ok(Date.now() - from < 15_000)
      assert.deepEqual([task.state, task.moved], ['done', 2000])
      const back = texts(await takeAll(gateway, both.queue, 2000))
      assert.equal(back.length, 2000)
      assert.deepEqual(
        back.toSorted((a, b) => Number(a) - Number(b)),
        all,
      )
      assert.equal(await count(gateway, both.dead), 0)
    })

    it(`a redrive with a filter keeps the order of the messages that stay in a ${type} queue`, async () => {
      const queue = await freshQueue(gateway, { type })
      const to = await freshQueue(gateway)
      for (let n = 0; n < 20; n++)
        await publishAll(
          gateway,
          queue,
          numbers(50).map((text) => `${n * 50 + Number(text)}`),
          { even: n % 2 === 0 },
        )
      const task = await redriven(gateway, queue, { to, filter: { header: { even: true } } })
      assert.deepEqual(counts(task as never), { state: 'done', moved: 500, matched: 500, skipped: 500, failed: 0, total: 1000 })
      const odd = (text: string) => Math.floor(Number(text) / 50) % 2 === 1
      assert.deepEqual(texts(await takeAll(gateway, queue, 500)), numbers(1000).filter(odd))
      const even = numbers(1000).filter((text) => !odd(text))
      assert.deepEqual(texts(await takeAll(gateway, to, 500)), even)
    })
  })
}

describe('redriving', () => {
  it('a redrive moves messages to another queue or through an exchange, with one routing key or their own', async () => {
    const [a, b, exchange] = [await freshQueue(gateway), await freshQueue(gateway), freshName('exchange')]
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    const from = await freshQueue(gateway)
    await gateway.put(`/exchanges/amq.topic/bindings/queues/${from}?routing_key=eu.*`).expect(204)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${a}?routing_key=fixed`).expect(204)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${b}?routing_key=eu.de`).expect(204)
    const send = (key: string) =>
      gateway.post(`/exchanges/amq.topic/messages?routing_key=${key}&mandatory=true`).type('text/plain').send(key).expect(201)
    await send('eu.de')
    await redriven(gateway, from, { to: a })
    assert.deepEqual([(await takeAll(gateway, a, 1))[0]!.routing_key], ['eu.de'])
    await send('eu.de')
    await redriven(gateway, from, { to: { queue: a } })
    assert.deepEqual(texts(await takeAll(gateway, a, 1)), ['eu.de'])
    await send('eu.fr')
    await redriven(gateway, from, { to: { exchange, routing_key: 'fixed' } })
    const [moved] = await takeAll(gateway, a, 1)
    assert.deepEqual([moved!.payload, moved!.exchange, moved!.routing_key], ['eu.fr', exchange, 'fixed'])
    for (const key of ['eu.fr', 'eu.de', 'eu.fr']) await send(key)
    const task = await redriven(gateway, from, { to: { exchange } })
    assert.deepEqual(counts(task as never), { state: 'done', moved: 1, matched: 3, skipped: 0, failed: 2, total: 3 })
    assert.match(task.last_error!, /^unroutable: /)
    assert.deepEqual(texts(await takeAll(gateway, b, 1)), ['eu.de'])
    assert.deepEqual(texts(await takeAll(gateway, from, 2)), ['eu.fr', 'eu.fr'])
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
  })

  it('a filter selects messages by header values of any type and by the reason of their death', async () => {
    const both = await pair(gateway)
    const { queue, dead } = both
    await kill(gateway, both, ['rejected'], { 'x-tenant': 'a', n: 1, deep: { b: [1, 'x'], a: null }, big: 1 })
    await gateway.post(`/queues/${queue}/messages`).set('amqp-expiration', '1').send('expired').expect(201)
    await eventually(async () => assert.equal(await count(gateway, dead), 2))
    const countMatching = async (filter: object) => {
      const { state, moved, matched, skipped } = await redriven(gateway, dead, { filter, dry_run: true })
      assert.deepEqual([state, moved, matched + skipped], ['done', 0, 2])
      return matched
    }
    assert.equal(await countMatching({ reason: 'rejected' }), 1)
    assert.equal(await countMatching({ reason: 'expired' }), 1)
    assert.equal(await countMatching({ reason: 'maxlen' }), 0)
    assert.equal(await countMatching({ header: { 'x-tenant': 'a' } }), 1)
    assert.equal(await countMatching({ header: { 'x-tenant': 'a', n: 1, deep: { a: null, b: [1, 'x'] } } }), 1)
    for (const header of [{ 'x-tenant': 'b' }, { n: '1' }, { n: 2 }, { deep: {} }, { missing: null }, { 'x-tenant': 'a', n: 2 }])
      assert.equal(await countMatching({ header }), 0, JSON.stringify(header))
    assert.equal(await countMatching({ header: { n: 1 }, reason: 'expired' }), 0)
    assert.deepEqual(texts(await peek(dead)), ['rejected', 'expired'])
    const task = await redriven(gateway, dead, { filter: { reason: 'expired' } })
    assert.deepEqual(counts(task as never), { state: 'done', moved: 1, matched: 1, skipped: 1, failed: 0, total: 2 })
    assert.deepEqual(texts(await takeAll(gateway, queue, 1)), ['expired'])
    assert.deepEqual(texts(await peek(dead)), ['rejected'])
  })

  it('a redrive moves at most max messages, the first ones', async () => {
    const both = await pair(gateway)
    await kill(gateway, both, numbers(30))
    assert.equal((await redriven(gateway, both.dead, { max: 7 })).moved, 7)
    assert.deepEqual(texts(await takeAll(gateway, both.queue, 7)), numbers(7))
    assert.equal(await count(gateway, both.dead), 23)
    assert.equal((await redriven(gateway, both.dead, { max: 5, dry_run: true })).matched, 5)
    assert.deepEqual(texts(await takeAll(gateway, both.dead, 23)), numbers(30).slice(7))
  })

  it('a redrive never exceeds its rate', async () => {
    const both = await pair(gateway)
    await kill(gateway, both, numbers(40))
    const from = Date.now()
    const task = await begin(gateway, both.dead, { rate: 20 })
    const moved: [at: number, moved: number][] = []
    await eventually(async () => {
      const { body } = await gateway.get(`/redrives/${task.id}`).expect(200)
      moved.push([Date.now() - from, body.moved])
      assert.equal(body.state, 'done')
    })
    for (const [at, n] of moved) assert.ok(n <= (at / 1000) * 20 + 1, `${n} in ${at} ms`)
    assert.ok(Date.now() - from >= 1900)
    assert.equal((await takeAll(gateway, both.queue, 40)).length, 40)
  })

  it('a redrive ends after the messages that it found at its start, even if they die again', async () => {
    const both = await pair(gateway)
    await kill(gateway, both, ['a', 'b', 'c'])
    const task = await begin(gateway, both.dead, { rate: 2 })
    for (let n = 0; n < 3; n++) {
      const [{ lease }] = (await gateway.get(`/queues/${both.queue}/messages?wait=10s`).expect(200)).body.messages
      await gateway.post(`/leases/${lease.id}/nack`).send({ requeue: false }).expect(204)
    }
    const { state, moved } = await ended(gateway, task.id)
    assert.deepEqual([state, moved], ['done', 3])
    await eventually(async () => assert.deepEqual(texts(await peek(both.dead)), ['a', 'b', 'c']))
  })

  it('messages without deaths and messages whose queue was deleted stay in the dead-letter queue', async () => {
    const both = await pair(gateway)
    await kill(gateway, both, ['a', 'b'])
    await publishAll(gateway, both.dead, ['stranger'])
    await gateway.delete(`/queues/${both.queue}`).expect(204)
    const task = await redriven(gateway, both.dead)
    assert.deepEqual(counts(task as never), { state: 'done', moved: 0, matched: 2, skipped: 1, failed: 2, total: 3 })
    assert.match(task.last_error!, /^queue_not_found: /)
    assert.deepEqual(texts(await peek(both.dead)), ['a', 'b', 'stranger'])
  })

  it('messages that a full target rejects stay in the queue', async () => {
    const to = await freshQueue(gateway, { arguments: { 'x-max-length': 3, 'x-overflow': 'reject-publish' } })
    const from = await freshQueue(gateway)
    await publishAll(gateway, from, numbers(10))
    const task = await redriven(gateway, from, { to, rate: 50 })
    assert.deepEqual([task.moved, task.failed], [3, 7])
    assert.match(task.last_error!, /^publish_rejected: /)
    assert.deepEqual(texts(await peek(from)), numbers(10).slice(3))
  })

  it('a forged x-death header cannot redirect a redrive, and does not move with the message', async () => {
    const [from, to, copy] = [await freshQueue(gateway), await freshQueue(gateway), await freshQueue(gateway)]
    const death = (queue: string) => [{ queue, exchange: '', reason: 'rejected', 'routing-keys': [queue], count: 1 }]
    await publishAll(gateway, from, ['x'], { 'x-death': death('gateway.definitions') })
    await publishAll(gateway, from, ['y'], { 'x-death': death(from) })
    const task = await redriven(gateway, from)
    assert.deepEqual([task.moved, task.failed, task.skipped], [0, 1, 1])
    assert.match(task.last_error!, /^access_refused: /)
    await takeAll(gateway, from, 2)
    await publishAll(gateway, to, ['z'], { CC: [from], keep: 1, 'x-death': death(to) })
    await takeAll(gateway, to, 1)
    await redriven(gateway, from, { to: copy })
    const [message] = await takeAll(gateway, copy, 1)
    assert.deepEqual([message!.routing_key, message!.properties.headers], [to, { CC: [from], keep: 1 }])
    assert.deepEqual([await count(gateway, to), await count(gateway, from)], [0, 0])
  })

  it('a redrive of an empty queue is done at once', async () => {
    const task = await redriven(gateway, await freshQueue(gateway), { to: await freshQueue(gateway) })
    assert.deepEqual(counts(task as never), { state: 'done', moved: 0, matched: 0, skipped: 0, failed: 0, total: 0 })
  })

  it('a redrive fails if its queue is deleted', async () => {
    const [from, to] = [await freshQueue(gateway), await freshQueue(gateway)]
    await publishAll(gateway, from, numbers(50))
    const { id } = await begin(gateway, from, { to, rate: 5 })
    await eventually(async () => assert.ok((await gateway.get(`/redrives/${id}`)).body.moved > 0))
    await gateway.delete(`/queues/${from}`).expect(204)
    const task = await ended(gateway, id)
    assert.equal(task.state, 'failed')
    assert.match(task.last_error!, /^queue_not_found: /)
  })

  it('a redrive that would hold more than 50,000 messages fails and returns them in order', { timeout: 120_000 }, async () => {
    const from = await freshQueue(gateway)
    await publishAll(gateway, from, numbers(50_500))
    const task = await redriven(gateway, from, { to: await freshQueue(gateway), dry_run: true })
    assert.equal(task.state, 'failed')
    assert.match(task.last_error!, /50000/)
    await eventually(async () => assert.equal(await count(gateway, from), 50_500))
    const first = texts(await peek(from))
    assert.ok(first.length > 0)
    assert.deepEqual(first, numbers(first.length))
  })

  it('the metrics count redriven messages and running redrives', async () => {
    const { text } = await gateway.get('/metrics').expect(200)
    for (const outcome of ['moved', 'skipped', 'failed'])
      assert.match(text, new RegExp(`gateway_redriven_messages_total\\{outcome="${outcome}"\\} [1-9]`))
    assert.match(text, /gateway_redrives_running 0/)
  })
})

describe('redrives with several instances', () => {
  it('every instance shows a redrive, refuses a second one of its queue and can stop it', async () => {
    const both = await pair(gateway)
    await kill(gateway, both, numbers(100))
    const { id } = await begin(gateway, both.dead, { rate: 10 })
    await eventually(async () => assert.ok((await other.get(`/redrives/${id}`).expect(200)).body.moved >= 2))
    const list = (await other.get('/redrives').expect(200)).body.redrives
    assert.equal(list.find((task: { id: string }) => task.id === id).state, 'running')
    const second = await other.post(`/queues/${both.dead}/redrive`).send({ to: both.queue }).expect(409)
    assert.equal(second.body.code, 'precondition_failed')
    await other.delete(`/redrives/${id}`).expect(204)
    for (const one of [gateway, other]) {
      const task = await ended(one, id)
      assert.equal(task.state, 'stopped')
      assert.ok(task.moved >= 2 && task.moved < 100)
    }
    const { moved } = await ended(gateway, id)
    await eventually(async () => assert.equal(await count(gateway, both.dead), 100 - moved))
    assert.deepEqual(texts(await takeAll(gateway, both.queue, moved)), numbers(moved))
    assert.deepEqual(texts(await takeAll(gateway, both.dead, 100 - moved)), numbers(100).slice(moved))
    await other.delete(`/redrives/${id}`).expect(204)
    assert.equal((await other.get(`/redrives/${id}`).expect(404)).body.code, 'redrive_not_found')
    await eventually(() => gateway.get(`/redrives/${id}`).expect(404))
  })

  it('only one of several concurrent redrives of a queue begins', async () => {
    const from = await freshQueue(gateway)
    const to = await freshQueue(gateway)
    await publishAll(gateway, from, numbers(20))
    const ask = (at: typeof gateway) => at.post(`/queues/${from}/redrive`).send({ to, rate: 5 })
    const responses = await Promise.all([gateway, other, gateway, other].map(ask))
    assert.deepEqual(responses.map(({ status }) => status).sort(), [202, 409, 409, 409])
    const { id } = responses.find(({ status }) => status === 202)!.body
    const { redrives } = (await gateway.get('/redrives').expect(200)).body
    const running = redrives.filter(({ state }: { state: string }) => state === 'running')
    assert.deepEqual(
      running.map((task: { id: string }) => task.id),
      [id],
    )
    await gateway.delete(`/redrives/${id}`).expect(204)
  })

  it('another instance continues the redrive of an instance that shuts down', async () => {
    const third = await startGateway(vhost.env)
    const [from, to] = [await freshQueue(gateway), await freshQueue(gateway)]
    await publishAll(gateway, from, numbers(60))
    const { id, instance } = await begin(third, from, { to, rate: 20 })
    await eventually(async () => assert.ok((await gateway.get(`/redrives/${id}`).expect(200)).body.moved > 5))
    await third.close()
    const task = await ended(gateway, id)
    assert.deepEqual([task.state, task.moved], ['done', 60])
    assert.notEqual(task.instance, instance)
    assert.deepEqual(texts(await takeAll(gateway, to, 60)), numbers(60))
  })
})
