// How fast one instance delivers a subscription: with a window that adapts to the endpoint, and single probes while it is down.

import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { describe, it } from 'node:test'
import { isEmpty, publish, QUICK, startPushing, subscribed, waiting } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, type Gateway } from '../support/gateway.js'

const [gateway] = (await startPushing()) as [Gateway]
const createSubscription = (definition?: object, declaration?: object) => subscribed(gateway, definition, declaration)
const fill = async (queue: string, count: number) => {
  const messages = Array.from({ length: count }, (_, n) => ({ payload: `${n}` }))
  await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
}

describe('limits by the endpoint', () => {
  it('a delivery answered with 202 counts towards the concurrency until it is settled', async () => {
    const { receiver, queue, status } = await createSubscription({ concurrency: 3 })
    receiver.reply = 202
    for (let n = 0; n < 8; n++) await publish(gateway, queue, `${n}`)
    await receiver.many(3)
    await eventually(async () => assert.equal((await status()).in_flight, 3))
    assert.equal(await waiting(gateway, queue), 5)
    for (let n = 0; n < 8; n++) {
      await receiver.many(n + 1)
      await gateway.post(`/leases/${receiver.got[n]!.headers['lease-id']}/ack`).expect(204)
    }
    assert.equal(receiver.got.length, 8)
  })

  for (const [status, what, retryAfter] of [
    [429, 'Retry-After in seconds', () => '1'],
    [503, 'Retry-After as a date', () => new Date(Date.now() + 2000).toUTCString()],
    [429, 'no Retry-After', () => undefined],
  ] as const) {
    it(`${status} with ${what} slows the subscription down and is not a failed attempt`, async () => {
      const {
        receiver,
        queue,
        status: getStatus,
      } = await createSubscription({ retry: { max_attempts: 1, backoff: QUICK }, give_up: 'discard' })
      receiver.reply = (response) => {
        const header = retryAfter()
        response.writeHead(status, header === undefined ? {} : { 'retry-after': header }).end()
      }
      for (const body of ['a', 'b']) await publish(gateway, queue, body)
      await receiver.many(1)
      const slowed = await eventually(async () => {
        const now = await getStatus()
        assert.ok(Date.parse(now.next_attempt) > Date.now())
        return now
      })
      assert.equal(slowed.failed, 0)
      receiver.reply = 200
      const got = await receiver.many(3, 20_000)
      assert.ok(got[1]!.at - got[0]!.at >= 950, `${got[1]!.at - got[0]!.at} ms`)
      await isEmpty(gateway, queue)
    })
  }
})

describe('concurrent deliveries', () => {
  it('deliveries start one at a time, double with each success, and never exceed the concurrency', async () => {
    const { receiver, queue, name } = await createSubscription({ paused: true, concurrency: 6 })
    const held: ServerResponse[] = []
    receiver.reply = (response) => held.push(response)
    await fill(queue, 80)
    await gateway.post(`/subscriptions/${name}/resume`).expect(200)
    // Each time the endpoint answers all open deliveries at once.
    for (const window of [1, 2, 4, 6, 6]) {
      await eventually(() => assert.equal(held.length, window))
      assert.equal(receiver.mostOpen, window)
      for (const response of held.splice(0)) response.writeHead(204).end()
    }
    await eventually(() => assert.equal(held.length, 6))
    receiver.reply = 204
    for (const response of held) response.writeHead(204).end()
    await receiver.many(80, 20_000)
    await isEmpty(gateway, queue)
    assert.equal(receiver.mostOpen, 6)
  })

  it('deliveries never exceed the concurrency across pauses, changes and failures', async () => {
    const { receiver, queue, name } = await createSubscription({ paused: true, concurrency: 4 })
    let n = 0
    receiver.reply = (response) => {
      const status = ++n % 7 === 0 ? 500 : 204
      setTimeout(() => response.writeHead(status).end(), 20)
    }
    await fill(queue, 200)
    const definition = { queue, url: receiver.url, retry: { backoff: QUICK } }
    for (let round = 0; round < 6; round++) {
      await gateway.post(`/subscriptions/${name}/resume`).expect(200)
      await gateway
        .put(`/subscriptions/${name}`)
        .send({ ...definition, concurrency: 4 - (round % 2) })
        .expect(200)
      await gateway.post(`/subscriptions/${name}/pause`).expect(200)
    }
    await gateway.post(`/subscriptions/${name}/resume`).expect(200)
    await eventually(() => assert.equal(new Set(receiver.bodies()).size, 200), 30_000)
    await isEmpty(gateway, queue)
    assert.ok(receiver.mostOpen <= 4, `${receiver.mostOpen}`)
  })

  it('an endpoint that is down gets single probes at growing intervals, and deliveries continue once it is back', async () => {
    const { receiver, queue, status } = await createSubscription({
      concurrency: 10,
      retry: { max_attempts: 100, backoff: QUICK },
    })
    receiver.reply = 500
    await fill(queue, 30)
    // Three failures in a row, then a probe after a second, then one two seconds later.
    await receiver.many(4)
    await eventually(async () => {
      const down = await status()
      assert.ok(down.failed >= 4)
      assert.equal(down.state, 'failing')
      assert.ok(Date.parse(down.next_attempt) > Date.now())
    })
    assert.equal(receiver.mostOpen, 1)
    const before = receiver.got.length
    receiver.reply = 200
    const gap = (n: number) => receiver.got[n]!.at - receiver.got[n - 1]!.at
    await receiver.many(5)
    assert.ok(gap(3) >= 950, `the first probe came after ${gap(3)} ms`)
    assert.ok(gap(4) >= 1900, `the second probe came after ${gap(4)} ms`)
    await eventually(() => assert.equal(new Set(receiver.got.slice(before).map(({ body }) => body.toString())).size, 30), 20_000)
    await isEmpty(gateway, queue)
    assert.equal((await status()).state, 'running')
  })

  it('the metrics of a subscription exist until it is deleted', async () => {
    const { receiver, queue, name } = await createSubscription({ concurrency: 2 })
    await publish(gateway, queue, 'x')
    await receiver.many(1)
    await eventually(async () => {
      const { text } = await gateway.get('/metrics').expect(200)
      const label = `subscription="${name}"`
      assert.match(text, new RegExp(`gateway_push_deliveries_total\\{[^}]*${label},outcome="delivered"\\} 1`))
      assert.match(text, new RegExp(`gateway_push_duration_seconds_count\\{[^}]*${label}\\} 1`))
      assert.match(text, new RegExp(`gateway_push_in_flight\\{[^}]*${label}\\} 0`))
      assert.match(text, new RegExp(`gateway_push_window\\{[^}]*${label}\\} 2`))
      assert.match(text, new RegExp(`gateway_push_paused\\{[^}]*${label}\\} 0`))
    })
    await gateway.delete(`/subscriptions/${name}`).expect(204)
    const { text } = await gateway.get('/metrics').expect(200)
    assert.ok(!text.includes(name))
  })
})

describe('the number of subscriptions', () => {
  it('a vhost holds up to 1000 subscriptions, which can still be changed', async () => {
    const [full] = (await startPushing()) as [Gateway]
    const queue = await freshQueue(full)
    const { definitions } = full.app.services
    const body = { queue, url: 'https://endpoint.invalid/', paused: true }
    await full.put('/subscriptions/first').send(body).expect(201)
    const { key, value } = definitions.list('subscription')[0]!
    await Promise.all(
      Array.from({ length: 999 }, (_, n) => definitions.put('subscription', key.replace('first', `n${n + 1}`), value)),
    )
    assert.equal((await full.get('/subscriptions').expect(200)).body.subscriptions.length, 1000)
    assert.equal((await full.put('/subscriptions/one-more').send(body).expect(503)).body.code, 'overloaded')
    await full
      .put('/subscriptions/n7')
      .send({ ...body, concurrency: 2 })
      .expect(200)
  })
})
