// Subscriptions at several instances, in their forms, and where they may go.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { after, describe, it } from 'node:test'
import { HTTP } from 'cloudevents'
import { Webhook } from 'standardwebhooks'
import { createAuthority } from '../support/certificates.js'
import { isEmpty, publish, QUICK, startPushing, startReceiver, subscribe, subscribed, waiting } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const [gateway, other] = (await startPushing(2)) as [Gateway, Gateway]
const set = (definition?: object, declaration?: object) => subscribed(gateway, definition, declaration)

describe('instances', () => {
  it('share the messages of a queue out, each delivers some, and none is delivered twice', async () => {
    const { receiver, queue } = await set({ concurrency: 5 })
    receiver.reply = (response) => setTimeout(() => response.writeHead(200).end(), 10)
    const name = (at: Gateway) => at.app.services.metrics.registry.getSingleMetricAsString('gateway_push_deliveries_total')
    const messages = Array.from({ length: 400 }, (_, n) => ({ payload: n }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    await receiver.many(400, 30_000)
    await isEmpty(gateway, queue)
    assert.equal(receiver.got.length, 400)
    assert.equal(new Set(receiver.bodies()).size, 400)
    for (const at of [gateway, other]) {
      const counted = /subscription="[^"]*",outcome="delivered"\} (\d+)/.exec(await name(at))
      assert.ok(Number(counted![1]) > 60, `${counted![1]} of 400`)
    }
  })

  it('deliver what one that goes away had, and an instance that comes later delivers too', async () => {
    const { receiver, queue, status } = await set()
    const third = await startGateway({ PUSH_ALLOWED_NETWORKS: '127.0.0.0/8', AMQP_URL: urlOf(gateway) })
    receiver.reply = () => undefined // it hangs
    for (let n = 0; n < 3; n++) await publish(gateway, queue, `${n}`)
    await eventually(() => assert.equal(receiver.open, 3))
    await third.close()
    receiver.reply = 200
    await eventually(() => assert.ok(receiver.got.length >= 3))
    for (const { connection } of [gateway, other].flatMap((at) => at.app.services.vhosts.default.connections()))
      connection.destroy('a test')
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 3))
    await eventually(() => isEmpty(gateway, queue), 30_000)
    assert.ok(['running', 'failing'].includes((await status()).state))
  })

  it('go on delivering when the queue is deleted and declared anew', async () => {
    const { receiver, queue, status } = await set()
    await gateway.delete(`/queues/${queue}`).expect(204)
    await eventually(async () => {
      const { state, last_error } = await status()
      assert.equal(state, 'failing')
      assert.match(last_error, /no queue/)
    })
    await gateway.put(`/queues/${queue}`).send({ type: 'quorum' }).expect(201)
    await publish(gateway, queue, 'back')
    await receiver.many(1, 20_000)
    await eventually(async () => assert.equal((await status()).state, 'running'), 20_000)
  })

  it('stop delivering at once when it is paused or deleted, and settle what is under way by its answer', async () => {
    const { receiver, queue, name } = await set({ concurrency: 1 })
    const answers: (() => void)[] = []
    receiver.reply = (response) => answers.push(() => response.writeHead(200).end())
    for (let n = 0; n < 6; n++) await publish(gateway, queue, `${n}`)
    await receiver.many(2) // one by each instance
    await other.delete(`/subscriptions/${name}`).expect(204)
    await eventually(() =>
      assert.ok(
        [gateway, other].every((at) => at.app.services.definitions.list('subscription').every(({ key }) => !key.endsWith(name))),
      ),
    )
    for (const answer of answers) answer()
    await eventually(async () => {
      const { body } = await gateway.get(`/queues/${queue}/messages?ack=requeue&max=10`).expect(200)
      assert.equal(body.messages.length, 4)
    })
    assert.equal(receiver.got.length, 2)
  })

  it('have the definitions again when all of them start anew', async () => {
    const { name } = await set({ paused: true, headers: { 'x-a': 'b' } })
    const anew = await startGateway({ AMQP_URL: urlOf(gateway) })
    await eventually(async () => {
      const { body } = await anew.get(`/subscriptions/${name}`).expect(200)
      assert.deepEqual([body.state, body.headers], ['paused', { 'x-a': 'b' }])
    })
    await anew.close()
  })
})

describe('another vhost', () => {
  it('has subscriptions of its own', async () => {
    const vhost = freshName('other-vhost')
    await management(`vhosts/${vhost}`, { method: 'PUT' })
    await management(`permissions/${vhost}/guest`, {
      method: 'PUT',
      body: JSON.stringify({ configure: '.*', write: '.*', read: '.*' }),
    })
    gateway.cleanups.push(() => management(`vhosts/${vhost}`, { method: 'DELETE' }))
    const receiver = await startReceiver()
    const at = `/vhosts/${vhost}`
    await gateway.put(`${at}/queues/q`).expect(201)
    const { body } = await gateway
      .put(`${at}/subscriptions/s`)
      .send({ queue: 'q', url: receiver.url, format: 'cloudevents' })
      .expect(201)
    assert.equal(body.vhost, vhost)
    await gateway.get('/subscriptions/s').expect(404)
    await gateway.post(`${at}/queues/q/messages`).send('x').expect(201)
    const [got] = await receiver.many(1)
    assert.equal(JSON.parse(got!.body.toString()).source, `/vhosts/${vhost}/queues/q`)
    await gateway.delete(`${at}/subscriptions/s`).expect(204)
  })
})

describe('the form', () => {
  const trace = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  const headers = { 'content-type': 'application/json', traceparent: trace, 'amqp-type': 'order.created' }

  it('json is the message as a receive answers it, with its lease', async () => {
    const { receiver, queue, secret } = await set({ format: 'json', headers: { 'x-tenant': 'a' } })
    const id = await publish(gateway, queue, '{"order": 12345678901234567890}', headers)
    const [got] = await receiver.many(1)
    assert.equal(got!.headers['content-type'], 'application/json')
    assert.equal(got!.headers['traceparent'], trace)
    assert.equal(got!.headers['x-tenant'], 'a')
    assert.match(got!.body.toString(), /"payload":\{"order": 12345678901234567890\}/)
    const message = new Webhook(secret).verify(got!.body, got!.headers as Record<string, string>) as {
      properties: { message_id: string }
      lease: { id: string }
      delivery_count: number
    }
    assert.equal(message.properties.message_id, id)
    assert.equal(message.lease.id, got!.headers['lease-id'])
    assert.equal(message.delivery_count, 1)
  })

  it('cloudevents is an event in structured mode', async () => {
    const { receiver, queue, secret } = await set({ format: 'cloudevents' })
    const id = await publish(gateway, queue, '{"order": 1}', headers)
    const [got] = await receiver.many(1)
    new Webhook(secret).verify(got!.body, got!.headers as Record<string, string>)
    const event = HTTP.toEvent<{ order: number }>({ headers: got!.headers, body: got!.body.toString() })
    assert.ok(!Array.isArray(event))
    assert.deepEqual([event.id, event.type, event.data], [id, 'order.created', { order: 1 }])
    assert.equal(got!.headers['webhook-id'], id)
  })

  it('raw of what no HTTP header can have is a failed attempt that says so, and json carries it', async () => {
    const { receiver, queue, name, status } = await set({ retry: { max_attempts: 1 } })
    const properties = { headers: { large: 'x'.repeat(9000) } }
    await gateway
      .post(`/queues/${queue}/messages/batch`)
      .send({ messages: [{ payload: 1, properties }] })
      .expect(200)
    await eventually(async () => assert.match((await status()).pause_reason ?? '', /json can carry it/))
    assert.equal(receiver.got.length, 0)
    await gateway.put(`/subscriptions/${name}`).send({ queue, url: receiver.url, format: 'json', paused: false }).expect(200)
    await receiver.many(1)
  })

  it('of a message without an id has one that stays the same at each attempt', async () => {
    const { receiver, queue } = await set({ format: 'json' }, { type: 'classic' })
    receiver.reply = 500
    const vhost = encodeURIComponent(gateway.app.services.vhosts.defaultName)
    await management(`exchanges/${vhost}/amq.default/publish`, {
      method: 'POST',
      body: JSON.stringify({ properties: {}, routing_key: queue, payload: 'x', payload_encoding: 'string' }),
    })
    const got = await receiver.many(3)
    assert.equal(new Set(got.map(({ headers }) => headers['webhook-id'])).size, 1)
    assert.deepEqual(
      got.slice(0, 3).map(({ headers }) => headers['amqp-delivery-count']),
      [undefined, '2', '3'],
    )
    receiver.reply = 200
    await isEmpty(gateway, queue)
  })
})

describe('an endpoint that may not be called', () => {
  it('is not, whatever name leads there: it is a failed attempt, and the message stays', async () => {
    const guarded = await startGateway({ AMQP_URL: urlOf(gateway), PUSH_ALLOWED_NETWORKS: '10.0.0.0/8' })
    const receiver = await startReceiver()
    const literal = await guarded.put('/subscriptions/x').send({ queue: 'q', url: receiver.url }).expect(400)
    assert.equal(literal.body.errors[0].pointer, '/body/url')
    const name = freshName('subscription')
    const queue = await freshQueue(gateway)
    const url = receiver.url.replace('127.0.0.1', 'localhost')
    await subscribe(guarded, name, { queue, url, paused: true, retry: { max_attempts: 1, backoff: QUICK } })
    const { body } = await guarded.post(`/subscriptions/${name}/test`).expect(200)
    assert.match(body.error, /localhost, which is .*not public/)
    assert.equal(receiver.got.length, 0)
    await other.post(`/subscriptions/${name}/test`).expect(200)
    assert.equal(receiver.got.length, 1, 'where PUSH_ALLOWED_NETWORKS names it, it is')
    await guarded.close()
    assert.equal(await waiting(gateway, queue), 0)
  })

  it('has a certificate of nobody that is known', async () => {
    const { cert, key } = createAuthority().issue('localhost')
    const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (_request, response) => response.end())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    after(() => server.close())
    const name = freshName('subscription')
    const queue = await freshQueue(gateway)
    await subscribe(gateway, name, { queue, url: `https://localhost:${(server.address() as AddressInfo).port}/`, paused: true })
    const { body } = await gateway.post(`/subscriptions/${name}/test`).expect(200)
    assert.match(body.error, /UNABLE_TO_VERIFY|self.signed|unable to verify/i)
  })
})

function urlOf({ app }: Gateway): string {
  const [address] = app.services.config.AMQP_URL
  const { hostname, port, username, password, vhost } = address!
  return `amqp://${username}:${password}@${hostname}:${port}/${encodeURIComponent(vhost)}`
}
