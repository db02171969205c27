// Deliveries of subscriptions to real endpoints: what each response does with the message.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { isEmpty, publish, QUICK, startPushing, startReceiver, subscribed, waiting } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import type { Gateway } from '../support/gateway.js'

const [gateway, other] = (await startPushing(2)) as [Gateway, Gateway]
const createSubscription = (definition?: object, declaration?: object) => subscribed(gateway, definition, declaration)

describe('deliveries', () => {
  it('a delivery is the raw message with its headers and a signature, and a 2xx acks it', async () => {
    const { receiver, queue, secret, status } = await createSubscription()
    const trace = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    const headers = { 'content-type': 'text/x-order', 'amqp-type': 'order', 'amqp-header-tenant': 'a', traceparent: trace }
    const id = await publish(gateway, queue, 'ünit 1', headers)
    const [got] = await receiver.many(1)
    assert.equal(got!.body.toString(), 'ünit 1')
    assert.equal(got!.headers['content-type'], 'text/x-order')
    assert.equal(got!.headers['amqp-type'], 'order')
    assert.equal(got!.headers['amqp-header-tenant'], 'a')
    assert.equal(got!.headers['amqp-routing-key'], queue)
    assert.equal(got!.headers['amqp-message-id'], id)
    assert.equal(got!.headers['amqp-delivery-count'], '1')
    assert.equal(got!.headers['traceparent'], trace)
    assert.equal(got!.headers['webhook-id'], id)
    assert.match(String(got!.headers['lease-id']), /^[\w-]{40,}$/)
    assert.equal(got!.headers['location'], `/leases/${got!.headers['lease-id']}`)
    new Webhook(secret).verify(got!.body, got!.headers as Record<string, string>, { jsonParse: false })
    await isEmpty(gateway, queue)
    await eventually(async () => {
      const { state, delivered, failed, in_flight } = await status()
      assert.deepEqual({ state, delivered, failed, in_flight }, { state: 'running', delivered: 1, failed: 0, in_flight: 0 })
    })
  })

  it('a failed delivery is repeated after the backoff, not earlier, with the next delivery count', async () => {
    const backoff = { initial: '300ms', factor: 2, jitter: 0 }
    const { receiver, queue, status } = await createSubscription({ retry: { backoff, max_attempts: 5 } })
    receiver.reply = 404
    const id = await publish(gateway, queue, 'again')
    const got = await receiver.many(3)
    const times = got.map(({ at }) => at)
    assert.ok(times[1]! - times[0]! >= 295, `${times[1]! - times[0]!}`)
    assert.ok(times[2]! - times[1]! >= 595, `${times[2]! - times[1]!}`)
    assert.deepEqual(
      got.slice(0, 3).map(({ headers }) => [headers['webhook-id'], headers['amqp-delivery-count'], headers['amqp-routing-key']]),
      [1, 2, 3].map((count) => [id, String(count), queue]),
    )
    await eventually(async () => {
      const failing = await status()
      assert.equal(failing.state, 'failing')
      assert.match(failing.last_error, /404/)
      assert.ok(failing.failed >= 3)
    })
    receiver.reply = 200
    await eventually(async () => assert.equal((await status()).state, 'running'))
    await isEmpty(gateway, queue)
  })

  it('a delivery answered with 202 keeps its lease, and any instance settles it', async () => {
    const { receiver, queue, status } = await createSubscription({ lease: '20s' })
    receiver.reply = 202
    await publish(gateway, queue, 'later')
    const [got] = await receiver.many(1)
    const lease = await eventually(async () => {
      const { body } = await other.get(String(got!.headers['location'])).expect(200)
      assert.ok(Date.parse(body.expires_at) < Date.now() + 20_500, 'the lease of the subscription applies')
      return body
    })
    assert.equal(lease.queue, queue)
    await eventually(async () => assert.equal((await status()).in_flight, 1))
    await other.post(`/leases/${got!.headers['lease-id']}/ack`).expect(204)
    await isEmpty(gateway, queue)
    await eventually(async () => assert.equal((await status()).in_flight, 0))
    assert.equal(receiver.got.length, 1)
  })

  it('a delivery answered with 202 is repeated when its lease expires', async () => {
    const { receiver, queue } = await createSubscription({ lease: '1s' })
    receiver.reply = 202
    await publish(gateway, queue, 'forgotten')
    const [first, second] = await receiver.many(2)
    assert.ok(second!.at - first!.at >= 950)
    assert.equal(second!.headers['amqp-delivery-count'], '2')
    receiver.reply = 200
    await isEmpty(gateway, queue)
  })

  it('a 410 pauses the subscription at all instances and keeps the message', async () => {
    const { receiver, queue, name, status } = await createSubscription()
    receiver.reply = 410
    await publish(gateway, queue, 'gone')
    await receiver.many(1)
    for (const at of [gateway, other]) {
      await eventually(async () => {
        const { state, paused, pause_reason } = await status(at)
        assert.deepEqual([state, paused], ['paused', true])
        assert.match(pause_reason, /410/)
      })
    }
    await eventually(async () => assert.equal(await waiting(gateway, queue), 1))
    receiver.reply = 200
    const { body } = await other.post(`/subscriptions/${name}/resume`).expect(200)
    assert.equal(body.paused, false)
    assert.equal(body.pause_reason, undefined)
    const [, again] = await receiver.many(2)
    assert.equal(again!.body.toString(), 'gone')
    await isEmpty(gateway, queue)
  })

  it('a redirect is not followed and is a failed attempt', async () => {
    const elsewhere = await startReceiver()
    const { receiver, queue, status } = await createSubscription()
    receiver.reply = { status: 307, headers: { location: elsewhere.url } }
    await publish(gateway, queue, 'x')
    await receiver.many(2)
    await eventually(async () => assert.match((await status()).last_error, /307/))
    assert.equal(elsewhere.got.length, 0)
    receiver.reply = 200
    await isEmpty(gateway, queue)
  })

  it('a delivery without a response within the timeout is a failed attempt', async () => {
    const { receiver, queue, status } = await createSubscription({ timeout: '200ms' })
    receiver.reply = () => undefined
    await publish(gateway, queue, 'x')
    await receiver.many(2)
    await eventually(async () => assert.match((await status()).last_error, /0\.2 ?s|200 ?ms/))
    receiver.reply = 200
    await isEmpty(gateway, queue)
  })
})

describe('the last attempt of a delivery', () => {
  const retry = { max_attempts: 2, backoff: QUICK }

  it('give_up: pause, the default, keeps the message and pauses the subscription', async () => {
    const { receiver, queue, status } = await createSubscription({ retry })
    receiver.reply = 500
    await publish(gateway, queue, 'kept')
    await eventually(async () => assert.equal((await status()).state, 'paused'))
    assert.match((await status(other)).pause_reason, /2.*500/)
    assert.equal(receiver.got.length, 2)
    await eventually(async () => assert.equal(await waiting(gateway, queue), 1))
  })

  it('give_up: dead_letter dead-letters the message and delivers the next one', async () => {
    const { receiver, queue } = await createSubscription({ retry, give_up: 'dead_letter' }, { type: 'quorum', dead_letter: true })
    gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
    receiver.reply = (response, { body }) => response.writeHead(body.toString() === 'bad' ? 500 : 200).end()
    await publish(gateway, queue, 'bad')
    await eventually(async () => assert.equal(await waiting(gateway, `${queue}.dead`), 1))
    await publish(gateway, queue, 'good')
    await eventually(() => assert.deepEqual(receiver.bodies(), ['bad', 'bad', 'good']))
    const { body } = await gateway.get(`/queues/${queue}.dead/messages`).expect(200)
    assert.equal(body.messages[0].deaths[0].reason, 'rejected')
  })

  it('give_up: discard drops the message', async () => {
    const { receiver, queue, status } = await createSubscription({ retry, give_up: 'discard' })
    receiver.reply = 500
    await publish(gateway, queue, 'dropped')
    await receiver.many(2)
    await isEmpty(gateway, queue)
    assert.equal((await status()).paused, false)
  })
})
