// How fast a subscription delivers, on one instance: as fast as its endpoint can bear, and not at all while that is down.

import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { describe, it } from 'node:test'
import { isEmpty, publish, QUICK, startPushing, subscribed, waiting } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, type Gateway } from '../support/gateway.js'

const [gateway] = (await startPushing()) as [Gateway]
const set = (definition?: object, declaration?: object) => subscribed(gateway, definition, declaration)
const fill = async (queue: string, count: number) => {
  const messages = Array.from({ length: count }, (_, n) => ({ payload: `${n}` }))
  await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
}
const slowly = (milliseconds: number) => (response: ServerResponse) => {
  setTimeout(() => response.writeHead(204).end(), milliseconds)
}

describe('a delivery', () => {
  it('that was accepted counts for the concurrency until it is settled', async () => {
    const { receiver, queue, status } = await set({ concurrency: 3 })
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

  for (const [status, headers] of [
    [429, { 'retry-after': '1' }],
    [503, { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() }],
    [429, {}],
  ] as const) {
    it(`is slowed down by ${status} ${JSON.stringify(Object.keys(headers))}, which is no failed attempt`, async () => {
      const { receiver, queue, status: look } = await set({ retry: { max_attempts: 1, backoff: QUICK }, give_up: 'discard' })
      const inASecond = 'retry-after' in headers && /GMT/.test(headers['retry-after'])
      receiver.reply = {
        status,
        headers: inASecond ? { 'retry-after': new Date(Date.now() + 2000).toUTCString() } : headers,
      }
      for (const body of ['a', 'b']) await publish(gateway, queue, body)
      await receiver.many(1)
      const slowed = await eventually(async () => {
        const now = await look()
        assert.ok(Date.parse(now.next_attempt) > Date.now())
        return now
      })
      assert.equal(slowed.failed, 0)
      receiver.reply = 200
      const got = await receiver.many(3, 20_000)
      assert.ok(got[1]!.at - got[0]!.at >= (inASecond ? 900 : 950), `${got[1]!.at - got[0]!.at}`)
      await isEmpty(gateway, queue)
    })
  }
})

describe('deliveries at the same time', () => {
  it('are one at first, twice as many each time, and never more than the concurrency', async () => {
    const { receiver, queue, name } = await set({ paused: true, concurrency: 6 })
    const open: number[] = []
    receiver.reply = (response) => {
      open.push(receiver.open)
      slowly(60)(response)
    }
    await fill(queue, 80)
    await gateway.post(`/subscriptions/${name}/resume`).expect(200)
    await receiver.many(80, 20_000)
    await isEmpty(gateway, queue)
    assert.equal(open[0], 1)
    assert.ok(Math.max(...open.slice(0, 3)) <= 2, `${open}`)
    assert.equal(receiver.mostOpen, 6)
  })

  it('are never more than the concurrency, in spite of pauses, changes and failures', async () => {
    const { receiver, queue, name } = await set({ paused: true, concurrency: 4 })
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

  it('are one probe at a time to an endpoint that is down, and go on by themselves when it is back', async () => {
    const { receiver, queue, status } = await set({ concurrency: 10, retry: { max_attempts: 100, backoff: QUICK } })
    receiver.reply = 500
    await fill(queue, 30)
    await eventually(async () => assert.ok((await status()).failed >= 4))
    const down = await status()
    assert.equal(down.state, 'failing')
    assert.ok(Date.parse(down.next_attempt) > Date.now())
    const before = receiver.got.length
    await new Promise((resolve) => setTimeout(resolve, 2500))
    assert.ok(receiver.got.length - before <= 3, 'it rests between probes')
    assert.equal(receiver.mostOpen, 1)
    receiver.reply = 200
    await eventually(() => assert.equal(new Set(receiver.got.slice(before).map(({ body }) => body.toString())).size, 30), 20_000)
    await isEmpty(gateway, queue)
    assert.equal((await status()).state, 'running')
  })

  it('are told in metrics, as long as the subscription is there', async () => {
    const { receiver, queue, name } = await set({ concurrency: 2 })
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

describe('the thousandth subscription', () => {
  it('is the last one', async () => {
    const [full] = (await startPushing()) as [Gateway]
    const queue = await freshQueue(full)
    const { definitions } = full.app.services
    const body = { queue, url: 'https://endpoint.invalid/', paused: true }
    await full.put('/subscriptions/first').send(body).expect(201)
    const { key, value } = definitions.list('subscription')[0]!
    for (let n = 1; n < 1000; n++) await definitions.put('subscription', key.replace('first', `n${n}`), value)
    assert.equal((await full.get('/subscriptions').expect(200)).body.subscriptions.length, 1000)
    assert.equal((await full.put('/subscriptions/one-more').send(body).expect(503)).body.code, 'overloaded')
    await full
      .put('/subscriptions/n7')
      .send({ ...body, concurrency: 2 })
      .expect(200)
  })
})
