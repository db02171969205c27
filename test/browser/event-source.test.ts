// EventSource in a real Chromium: it reads a queue, and resumes a stream by itself.

import assert from 'node:assert/strict'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { openBrowser } from '../support/chromium.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, startGateway } from '../support/gateway.js'
import { readyGateway } from '../support/process.js'

const gateway = await startGateway()
const { page } = await openBrowser()

// A proxy between browser and gateway, to cut connections.
const target = Number(new URL(gateway.url).port)
const sockets = new Set<Socket>()
const proxy = createServer((incoming) => {
  const outgoing = connect(target, '127.0.0.1')
  for (const [one, other] of [
    [incoming, outgoing],
    [outgoing, incoming],
  ] as const) {
    sockets.add(one)
    one.pipe(other)
    one.on('error', () => undefined)
    one.once('close', () => {
      sockets.delete(one)
      other.destroy()
    })
  }
})
await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
const address = proxy.address()
const origin = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`
const cut = () => {
  for (const socket of sockets) socket.resetAndDestroy()
}
after(() => {
  proxy.close()
  cut()
})

interface Seen {
  messages: { data: string; id: string }[]
  ends: string[]
  errors: number
}

/** Opens an EventSource in the page, which records its events in a global variable of that name. */
async function listen(name: string, path: string): Promise<() => Promise<Seen>> {
  await page.evaluate(
    ([name, path]) => {
      const seen: Seen = { messages: [], ends: [], errors: 0 }
      const source = new EventSource(path!)
      source.addEventListener('message', ({ data, lastEventId }) => seen.messages.push({ data, id: lastEventId }))
      source.addEventListener('end', (event) => {
        const { data } = event as MessageEvent
        seen.ends.push(data)
        if (!JSON.parse(data).retryable) source.close()
      })
      source.onerror = () => seen.errors++
      Object.assign(globalThis, { [name!]: seen })
    },
    [name, path],
  )
  return () => page.evaluate((name) => (globalThis as unknown as Record<string, Seen>)[name]!, name)
}

const publish = async (queue: string, count: number, from: number) => {
  const messages = Array.from({ length: count }, (_, n) => ({ payload: { n: from + n, text: 'größe\n🐇' } }))
  await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
}
const numbersOf = ({ messages }: Seen): number[] => messages.map(({ data }) => JSON.parse(data).payload.n)
const numbers = (length: number): number[] => Array.from({ length }, (_, n) => n)

/** Starts a site with an empty page of its own: those of the gateway may connect to nothing else. @returns its origin */
async function openSite(): Promise<string> {
  const server = createHttpServer((_request, response) =>
    response.setHeader('content-type', 'text/html').end('<title>site</title>'),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('EventSource', () => {
  it('an EventSource receives messages as they arrive, and the problem that ends the stream', async () => {
    await page.goto(`${origin}/docs`)
    const queue = await freshQueue(gateway)
    await publish(queue, 3, 0)
    const seen = await listen('simple', `/queues/${queue}/stream?ack=auto`)
    await eventually(async () => assert.deepEqual(numbersOf(await seen()), [0, 1, 2]))
    await publish(queue, 1, 3)
    await eventually(async () => assert.deepEqual(numbersOf(await seen()), [0, 1, 2, 3]))
    assert.equal(JSON.parse((await seen()).messages[0]!.data).payload.text, 'größe\n🐇')
    await gateway.delete(`/queues/${queue}`).expect(204)
    await eventually(async () => assert.equal((await seen()).ends.length, 1))
    assert.equal(JSON.parse((await seen()).ends[0]!).code, 'queue_not_found')
  })

  it('an EventSource resumes a RabbitMQ stream after a lost connection, each message once', { timeout: 60_000 }, async () => {
    await page.goto(`${origin}/docs`)
    const queue = await freshQueue(gateway, { type: 'stream' })
    await publish(queue, 500, 0)
    const seen = await listen('resumed', `/queues/${queue}/stream?offset=first`)
    await eventually(async () => assert.equal((await seen()).messages.length, 500))
    for (const round of [1, 2]) {
      cut()
      await eventually(async () => assert.equal((await seen()).errors, round))
      await publish(queue, 250, 250 * (round + 1))
      await eventually(async () => assert.equal((await seen()).messages.length, 250 * (round + 2)), 20_000)
    }
    const all = await seen()
    assert.deepEqual(numbersOf(all), numbers(1000))
    assert.equal(all.messages.at(-1)!.id, '999')
  })

  it('an EventSource outlives a restart: it connects again to a draining instance, and then to the next one', {
    timeout: 90_000,
  }, async () => {
    const site = await openSite()
    await page.goto(site)
    const queue = await freshQueue(gateway)
    const env = { AMQP_URL, PORT: String(await freePort()), CORS_ORIGINS: site, SHUTDOWN_DRAIN: '8s' }
    const first = await readyGateway(env)
    // A lease keeps the instance draining while the browser comes back.
    await publish(queue, 1, 0)
    await fetch(`${first.url}/queues/${queue}/messages?lease=5m`)
    const seen = await listen('restarted', `${first.url}/queues/${queue}/stream?ack=auto`)
    await publish(queue, 1, 1)
    await eventually(async () => assert.deepEqual(numbersOf(await seen()), [1]))
    first.child.kill('SIGTERM')
    await eventually(async () => assert.ok((await seen()).ends.length >= 2), 10_000) // it has met the draining instance
    assert.equal(await first.exited, 0)
    await readyGateway(env)
    await publish(queue, 1, 2)
    await eventually(async () => assert.ok(numbersOf(await seen()).includes(2)), 20_000)
    assert.equal(JSON.parse((await seen()).ends[0]!).code, 'shutting_down')
    await page.goto('about:blank')
  })

  it('unsettled messages of an EventSource go back to the queue when its page is closed', async () => {
    await page.goto(`${origin}/docs`)
    const queue = await freshQueue(gateway)
    await publish(queue, 2, 0)
    const seen = await listen('held', `/queues/${queue}/stream`)
    await eventually(async () => assert.equal((await seen()).messages.length, 2))
    await page.goto('about:blank')
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 2))
  })
})
