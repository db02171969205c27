// Subscriptions at several instances and in other vhosts, their formats, and the endpoints that they may call.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
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
const createSubscription = (definition?: object, declaration?: object) => subscribed(gateway, definition, declaration)

describe('several instances', () => {
  it('two instances share the messages of a queue, and each message is delivered exactly once', async () => {
    const { receiver, queue, name } = await createSubscription({ concurrency: 5 })
    const held: ServerResponse[] = []
    receiver.reply = (response) => held.push(response)
    const messages = Array.from({ length: 400 }, (_, n) => ({ payload: n }))
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    // Every instance begins with one delivery and doubles: the endpoint answers once both have as many open as they may.
    const ROUNDS = [1, 2, 4, 5]
    for (const each of ROUNDS) {
      await eventually(() => assert.equal(held.length, 2 * each))
      for (const response of held.splice(0)) response.writeHead(200).end()
    }
    await eventually(() => assert.equal(held.length, 10))
    receiver.reply = 200
    for (const response of held) response.writeHead(200).end()
    await receiver.many(400, 30_000)
    await isEmpty(gateway, queue)
    assert.equal(receiver.got.length, 400)
    assert.equal(new Set(receiver.bodies()).size, 400)
    const deliveries = async (at: Gateway): Promise<number> => {
      const text = await at.app.services.metrics.registry.getSingleMetricAsString('gateway_push_deliveries_total')
      return Number(new RegExp(`subscription="${name}",outcome="delivered"\\} (\\d+)`).exec(text)?.[1] ?? 0)
    }
    await eventually(async () => {
      const [one, two] = [await deliveries(gateway), await deliveries(other)]
      assert.equal(one + two, 400)
      for (const count of [one, two]) assert.ok(count >= 17, `${one} and ${two}`) // 1 + 2 + 4 + 5 + 5
    })
  })

  it('the deliveries of an instance that stops are taken over, and deliveries survive lost connections', async () => {
    const { receiver, queue, status } = await createSubscription({ timeout: '3s' })
    const third = await startGateway({ PUSH_ALLOWED_NETWORKS: '127.0.0.0/8', AMQP_URL: urlOf(gateway) })
    receiver.reply = () => undefined // the endpoint hangs
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

  it('deliveries continue after the queue was deleted and declared again', async () => {
    const { receiver, queue, status } = await createSubscription()
    await gateway.delete(`/queues/${queue}`).expect(204)
    await eventually(async () => {
      const { state, last_error } = await status()
      assert.equal(state, 'failing')
      assert.match(last_error, /queue/)
    })
    await gateway.put(`/queues/${queue}`).send({ type: 'quorum' }).expect(201)
    await publish(gateway, queue, 'back')
    await receiver.many(1, 20_000)
    await eventually(async () => assert.equal((await status()).state, 'running'), 20_000)
  })

  it('a deleted subscription starts no delivery, and open deliveries are settled by their responses', async () => {
    const { receiver, queue, name } = await createSubscription({ concurrency: 1 })
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

  it('an instance that starts later has the subscriptions', async () => {
    const { name } = await createSubscription({ paused: true, headers: { 'x-team': 'b' } })
    const third = await startGateway({ AMQP_URL: urlOf(gateway) })
    await eventually(async () => {
      const { body } = await third.get(`/subscriptions/${name}`).expect(200)
      assert.deepEqual([body.state, body.headers], ['paused', { 'x-team': 'b' }])
    })
    await third.close()
  })
})

describe('other vhosts', () => {
  it('each vhost has its own subscriptions', async () => {
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

describe('formats of deliveries', () => {
  const trace = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  const headers = { 'content-type': 'application/json', traceparent: trace, 'amqp-type': 'order.created' }

  it('a delivery in json is the message as a receive shows it, with its lease', async () => {
    const { receiver, queue, secret } = await createSubscription({ format: 'json', headers: { 'x-tenant': 'a' } })
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

  it('a delivery in cloudevents is a structured-mode event', async () => {
    const { receiver, queue, secret } = await createSubscription({ format: 'cloudevents' })
    const id = await publish(gateway, queue, '{"order": 1}', headers)
    const [got] = await receiver.many(1)
    new Webhook(secret).verify(got!.body, got!.headers as Record<string, string>)
    const event = HTTP.toEvent<{ order: number }>({ headers: got!.headers, body: got!.body.toString() })
    assert.ok(!Array.isArray(event))
    assert.deepEqual([event.id, event.type, event.data], [id, 'order.created', { order: 1 }])
    assert.equal(got!.headers['webhook-id'], id)
  })

  it('a message whose headers do not fit HTTP fails in raw, with json as the advice, and is delivered in json', async () => {
    const { receiver, queue, name, status } = await createSubscription({ retry: { max_attempts: 1 } })
    const properties = { headers: { large: 'x'.repeat(9000) } }
    await gateway
      .post(`/queues/${queue}/messages/batch`)
      .send({ messages: [{ payload: 1, properties }] })
      .expect(200)
    await eventually(async () => assert.match((await status()).pause_reason ?? '', /json/))
    assert.equal(receiver.got.length, 0)
    await gateway.put(`/subscriptions/${name}`).send({ queue, url: receiver.url, format: 'json', paused: false }).expect(200)
    await receiver.many(1)
  })

  it('a message without a message id keeps one webhook-id over all attempts', async () => {
    const { receiver, queue } = await createSubscription({ format: 'json' }, { type: 'classic' })
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

describe('refused endpoints', () => {
  it('an endpoint with a private address is refused or never called, by address or by name', async () => {
    const guarded = await startGateway({ AMQP_URL: urlOf(gateway), PUSH_ALLOWED_NETWORKS: '10.0.0.0/8' })
    const receiver = await startReceiver()
    const literal = await guarded.put('/subscriptions/x').send({ queue: 'q', url: receiver.url }).expect(400)
    assert.equal(literal.body.errors[0].pointer, '/body/url')
    const name = freshName('subscription')
    const queue = await freshQueue(gateway)
    const url = receiver.url.replace('127.0.0.1', 'localhost')
    const subscription = { queue, url, paused: true, retry: { max_attempts: 1, backoff: QUICK } }
    await guarded.put(`/subscriptions/${name}`).send(subscription).expect(400)
    await subscribe(other, name, subscription)
    const { body } = await guarded.post(`/subscriptions/${name}/test`).expect(200)
    assert.match(body.error, /localhost/)
    assert.equal(receiver.got.length, 0)
    await other.post(`/subscriptions/${name}/test`).expect(200)
    assert.equal(receiver.got.length, 1, 'an instance that allows the address calls it')
    await guarded.close()
    assert.equal(await waiting(gateway, queue), 0)
  })

  it('an endpoint with an untrusted certificate is a failed attempt', async () => {
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
