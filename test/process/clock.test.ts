// Somebody sets the date while the gateway runs, forwards and back. Only what is shown follows.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { FakeClock } from '../support/fake-clock.js'
import { AMQP_URL, freshName } from '../support/gateway.js'
import { management } from '../support/management.js'
import { type GatewayProcess, readyGateway } from '../support/process.js'
import { proxied } from '../support/proxy.js'

const HOUR = 3600

interface Leased {
  id: string
  expires_at: string
}

/** A queue with a message, which is deleted after the test. */
async function queueWithMessage({ url }: GatewayProcess): Promise<string> {
  const queue = freshName('clock')
  assert.equal((await fetch(`${url}/queues/${queue}`, { method: 'PUT' })).status, 201)
  after(() => management(`queues/%2F/${queue}`, { method: 'DELETE' }))
  assert.equal((await fetch(`${url}/queues/${queue}/messages`, { method: 'POST', body: 'job' })).status, 201)
  return queue
}

async function lease({ url }: GatewayProcess, queue: string, duration: string): Promise<Leased> {
  const response = await fetch(`${url}/queues/${queue}/messages?wait=5s&lease=${duration}`)
  const { messages } = (await response.json()) as { messages: { lease: Leased }[] }
  assert.equal(messages.length, 1)
  return messages[0]!.lease
}

const post = async (url: string) => (await fetch(url, { method: 'POST' })).status

/** Waits until a new connection of the process sees the set clock: it then knows that the step has happened. */
async function stepped({ url }: GatewayProcess, clock: FakeClock, seconds: number): Promise<void> {
  clock.set(seconds)
  await eventually(async () => {
    const date = (await fetch(`${url}/health/live`)).headers.get('date') ?? ''
    assert.ok(Math.abs(Date.parse(date) - Date.now() - seconds * 1000) < 5000, date)
  })
}

describe('a gateway whose wall clock is set', () => {
  for (const [direction, step] of [
    ['forwards', HOUR],
    ['back', -HOUR],
  ] as const) {
    it(`leases last as long as they should when the clock goes ${direction}, and show their end by the new clock`, async () => {
      const clock = new FakeClock()
      const gateway = await readyGateway({ ...clock.env, AMQP_URL })
      const [long, short] = [await queueWithMessage(gateway), await queueWithMessage(gateway)]
      const kept = await lease(gateway, long, '60s')
      const begun = performance.now()
      await lease(gateway, short, '2s')
      await stepped(gateway, clock, step)

      const shown = (await (await fetch(`${gateway.url}/leases/${kept.id}`)).json()) as Leased
      const moved = Date.parse(shown.expires_at) - Date.parse(kept.expires_at)
      assert.ok(Math.abs(moved - step * 1000) < 2000, `${moved} ms`)

      await lease(gateway, short, '1s') // the lease of 2 s has ended, and its message came again
      const took = performance.now() - begun
      assert.ok(took > 1900 && took < 6000, `${took} ms`)
      await lease(gateway, short, '60s') // so has one that began after the step
      assert.equal(await post(`${gateway.url}/leases/${kept.id}/ack`), 204)
    })

    it(`the rate limit counts in its window when the clock goes ${direction}`, async () => {
      const clock = new FakeClock()
      const gateway = await readyGateway({ ...clock.env, AMQP_URL, RATE_LIMIT: '3/2s' })
      const ask = async () => fetch(`${gateway.url}/queues/nowhere`)
      for (let i = 0; i < 3; i++) assert.equal((await ask()).status, 404)
      await stepped(gateway, clock, step)
      const refused = await ask()
      // On a slow machine the two seconds may be over: then a new window counts.
      if (refused.status === 429) assert.ok(Number(refused.headers.get('retry-after')) <= 2)
      await eventually(async () => assert.equal((await ask()).status, 404), 5000)
    })

    it(`RabbitMQ is asked about its users in time when the clock goes ${direction}`, async () => {
      const [name, password] = [freshName('clock'), randomUUID()]
      const user = (secret: string) =>
        management(`users/${name}`, { method: 'PUT', body: JSON.stringify({ password: secret, tags: '' }) })
      after(() => management(`users/${name}`, { method: 'DELETE' }))
      await user(password)
      const permissions = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
      await management(`permissions/%2F/${name}`, { method: 'PUT', body: permissions })
      const clock = new FakeClock()
      const env = { ...clock.env, AMQP_URL, AUTH: 'broker', BROKER_USER_RECHECK_INTERVAL: '1s' }
      const gateway = await readyGateway(env)
      const status = async (secret: string) => {
        const authorization = `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`
        return (await fetch(`${gateway.url}/queues/nowhere`, { headers: { authorization } })).status
      }
      assert.equal(await status(password), 404)
      assert.equal(await status('second'), 401)
      await stepped(gateway, clock, step)
      await user('second')
      await eventually(async () => assert.equal(await status(password), 401))
      await eventually(async () => assert.equal(await status('second'), 404))
    })
  }

  it('a broker that falls silent is noticed on an idle gateway after the clock went back', async () => {
    const clock = new FakeClock()
    const { proxy, url } = await proxied(AMQP_URL)
    // Heartbeats would notice it only after minutes: the probe has to.
    const gateway = await readyGateway({ ...clock.env, AMQP_URL: url, AMQP_HEARTBEAT: '10m' })
    await queueWithMessage(gateway) // opens the channel that probes
    await stepped(gateway, clock, -HOUR)
    proxy.freeze()
    await eventually(async () => {
      const ready = await fetch(`${gateway.url}/health/ready`)
      assert.match(await ready.text(), /does not answer/)
    }, 20_000)
    proxy.thaw()
    await eventually(async () => assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 200), 20_000)
  })
})
