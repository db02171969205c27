// The gateway behind nginx, HAProxy, Apache and Caddy, with the configurations of docs/proxies.md.

import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, startGateway } from '../support/gateway.js'
import { startReverseProxy } from '../support/reverse-proxy.js'

const RATE = 100_000
const gateway = await startGateway({ TRUST_PROXY: 'loopback', RATE_LIMIT: `${RATE}/h` })

/** Those that pass on a request as it comes, and its response before the request has ended. */
const DUPLEX = ['nginx', 'haproxy']

/** Publishes and takes the message back raw, through the proxy. */
async function roundTrip(base: string, queue: string, headers: Record<string, string>): Promise<Response> {
  const published = await fetch(`${base}/queues/${queue}/messages`, { method: 'POST', body: 'x', headers })
  assert.equal(published.status, 201, await published.text())
  return fetch(`${base}/queues/${queue}/messages?format=raw&ack=auto&wait=5s`)
}

async function freshQueue(): Promise<string> {
  const queue = freshName('proxied')
  await gateway.put(`/queues/${queue}`).expect(201)
  gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}`))
  return queue
}

for (const name of ['nginx', 'haproxy', 'apache', 'caddy']) {
  const base = await startReverseProxy(name, gateway.url)
  // HAProxy answers 503 until its first check of the gateway has succeeded.
  await eventually(async () => assert.equal((await fetch(`${base}/health/ready`)).status, 200), 30_000)

  describe(`behind ${name}`, () => {
    it('a name with an encoded slash arrives as it is', async () => {
      const queue = `${freshName('a')}/b`
      for (const prefix of ['', '/mq']) {
        const path = `${base}${prefix}/vhosts/%2F/queues/${encodeURIComponent(queue)}`
        const declared = await fetch(path, { method: 'PUT' })
        assert.equal(declared.status, prefix === '' ? 201 : 200, await declared.clone().text())
        assert.equal(((await declared.json()) as { name: string }).name, queue)
      }
      assert.equal((await fetch(`${base}/queues/${encodeURIComponent(queue)}`, { method: 'DELETE' })).status, 204)
    })

    it('the client is known by its address, with a port or without', async () => {
      const remaining = async (headers: Record<string, string>) => {
        const answer = await fetch(`${base}/queues/nowhere`, { headers })
        return RATE - Number(/r=(\d+)/.exec(answer.headers.get('ratelimit') ?? '')?.[1])
      }
      // Caddy does not believe its clients, as docs/proxies.md says.
      if (name === 'caddy') {
        const before = await remaining({})
        assert.equal(await remaining({ 'x-forwarded-for': '203.0.113.7' }), before + 1)
        return
      }
      const own = `198.51.100.${['nginx', 'haproxy', 'apache'].indexOf(name) + 1}`
      const counts = []
      for (const entry of [own, `${own}:4711`, `${own}:4712`]) counts.push(await remaining({ 'x-forwarded-for': entry }))
      assert.deepEqual(counts, [1, 2, 3])
      assert.equal(
        await remaining({ 'x-forwarded-for': own, forwarded: 'for=203.0.113.99' }),
        4,
        'Forwarded is not believed beside it',
      )
    })

    it('a large body arrives, and so do headers with dots and underscores', async () => {
      const queue = await freshQueue()
      const body = 'x'.repeat(5_000_000)
      const headers = { 'amqp-header-a_b': 'one', 'amqp-header-c.d': 'two' }
      assert.equal((await fetch(`${base}/queues/${queue}/messages`, { method: 'POST', body, headers })).status, 201)
      const back = await fetch(`${base}/queues/${queue}/messages?format=raw&ack=auto&wait=5s`)
      assert.deepEqual([back.headers.get('amqp-header-a_b'), back.headers.get('amqp-header-c.d')], ['one', 'two'])
      assert.equal((await back.text()).length, body.length)
    })

    it('a raw message passes up to the limit of headers, and is 406 above it and not lost', async () => {
      const queue = await freshQueue()
      const statuses = new Set<number>()
      for (let size = 1000; size <= 4400; size += 100) {
        const answer = await roundTrip(base, queue, { 'amqp-header-big': 'h'.repeat(size) })
        statuses.add(answer.status)
        await answer.arrayBuffer()
        if (answer.status === 200) continue
        assert.equal(answer.status, 406, `${size} bytes`)
        const json = await fetch(`${base}/queues/${queue}/messages?ack=auto&wait=5s`)
        assert.equal(((await json.json()) as { messages: unknown[] }).messages.length, 1)
      }
      assert.deepEqual([...statuses], [200, 406])
    })

    it('a message of a stream arrives while the stream is open', async () => {
      const queue = await freshQueue()
      const leave = new AbortController()
      const stream = await fetch(`${base}/queues/${queue}/stream?ack=auto`, { signal: leave.signal })
      await fetch(`${base}/queues/${queue}/messages`, { method: 'POST', body: 'live' })
      let text = ''
      for await (const chunk of stream.body!) {
        text += Buffer.from(chunk)
        if (text.includes('"live"')) break
      }
      leave.abort()
    })

    if (DUPLEX.includes(name)) {
      it('the result of an NDJSON line arrives before the request has ended', async () => {
        const queue = await freshQueue()
        const results: string[] = []
        const headers = { 'content-type': 'application/x-ndjson' }
        const upload = httpRequest(`${base}/queues/${queue}/messages/batch`, { method: 'POST', headers }, (response) => {
          response.on('data', (chunk) => results.push(String(chunk)))
        })
        for (let n = 0; n < 3; n++) {
          upload.write(`{"payload":${n}}\n`)
          await eventually(() => assert.equal(results.join('').match(/"confirmed"/g)?.length, n + 1))
        }
        upload.end()
        await eventually(() => assert.match(results.join(''), /"published":3/))
      })
    }

    it('links under a path have the path, and lead somewhere', async () => {
      const queue = await freshQueue()
      await fetch(`${base}/mq/queues/${queue}/messages`, { method: 'POST', body: 'x' })
      const raw = await fetch(`${base}/mq/queues/${queue}/messages?format=raw&wait=5s`)
      const location = raw.headers.get('location') ?? ''
      assert.match(location, /^\/mq\/leases\/[\w-]+$/)
      assert.equal((await fetch(`${base}${location}/ack`, { method: 'POST' })).status, 204)

      const problem = (await (await fetch(`${base}/mq/queues/${queue}x`)).json()) as { type: string; instance: string }
      assert.deepEqual(problem, { ...problem, type: '/mq/problems#queue_not_found', instance: `/mq/queues/${queue}x` })
      assert.equal((await fetch(base + problem.type)).status, 200)
      for (const start of ['/mq/', '/mq/docs']) {
        const page = await fetch(base + start)
        assert.deepEqual([page.status, new URL(page.url).pathname], [200, '/mq/docs/'])
      }
      for (const file of ['openapi.json', 'docs/json']) {
        const { servers } = (await (await fetch(`${base}/mq/${file}`)).json()) as { servers: unknown }
        assert.deepEqual(servers, [{ url: '/mq' }])
      }
    })

    it('a client cannot claim a path of its own', async () => {
      const answer = await fetch(`${base}/queues/nowhere`, { headers: { 'x-forwarded-prefix': '/evil' } })
      assert.equal(((await answer.json()) as { type: string }).type, '/problems#queue_not_found')
    })
  })
}
