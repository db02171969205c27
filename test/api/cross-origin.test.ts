// Cross-origin requests: pages of other origins may use the gateway only if CORS_ORIGINS names them.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import supertest from 'supertest'
import { startWithKeys } from '../support/access.js'
import { freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { rawClient } from '../support/http.js'

const gateway = await startGateway()
const queue = await freshQueue(gateway)
const messages = `/queues/${queue}/messages`
const count = async () => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

/** Publishes as the form or script of a page would. */
function publish(from: Gateway, headers: Record<string, string>) {
  return from.post(messages).set(headers).type('text/plain').send('x')
}

describe('pages of other origins', () => {
  it('a publish from a page of another origin is refused without CORS headers', async () => {
    const before = await count()
    for (const headers of [
      { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site', origin: 'null' },
      { 'sec-fetch-site': 'same-site', origin: 'http://127.0.0.1:3000' },
      { 'sec-fetch-site': 'cross-site' },
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: gateway.url.replace('127.0.0.1', 'localhost') },
      { 'sec-fetch-site': 'something new' },
    ] as Record<string, string>[]) {
      const response = await publish(gateway, headers).expect(403)
      assert.equal(response.body.code, 'access_refused')
      assert.equal(response.headers['access-control-allow-origin'], undefined)
    }
    assert.equal(await count(), before)
  })

  it('a link or an image on a page of another origin receives nothing', async () => {
    await publish(gateway, {}).expect(201)
    const before = await count()
    for (const mode of ['navigate', 'no-cors'])
      await gateway.get(`${messages}?ack=auto`).set({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': mode }).expect(403)
    assert.equal(await count(), before)
  })

  it('a page of another origin may link to the docs and to health', async () => {
    const headers = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }
    for (const path of ['/docs/', '/openapi.json', '/problems', '/health/live']) await gateway.get(path).set(headers).expect(200)
  })

  it('a preflight from another origin is refused', async () => {
    const headers = { origin: 'https://evil.example', 'access-control-request-method': 'PUT', 'sec-fetch-site': 'cross-site' }
    const response = await gateway.call('options', messages).set(headers).expect(403)
    assert.equal(response.headers['access-control-allow-origin'], undefined)
  })
})

describe('pages of the same origin, and other clients', () => {
  it('pages of the same origin and clients that are not browsers may publish', async () => {
    for (const headers of [
      {},
      { 'sec-fetch-site': 'same-origin', origin: gateway.url },
      { 'sec-fetch-site': 'same-origin', origin: 'https://behind.a.proxy.example' },
      { 'sec-fetch-site': 'none' },
      { origin: gateway.url },
    ] as Record<string, string>[]) {
      await publish(gateway, headers).expect(201)
    }
  })
})

describe('CORS_ORIGINS', () => {
  const origin = 'https://app.example'

  it('pages of a listed origin may publish and read the responses, and pages of other origins may not', async () => {
    const open = await startGateway({ CORS_ORIGINS: `${origin}, http://localhost:3000` })
    const page = { origin, 'sec-fetch-site': 'cross-site' }
    const asked = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,amqp-header-a' }
    const preflight = await supertest(open.url)
      .options(messages)
      .set({ ...page, ...asked })
    assert.equal(preflight.status, 204)
    assert.equal(preflight.headers['access-control-allow-origin'], origin)
    assert.equal(preflight.headers['access-control-allow-headers'], asked['access-control-request-headers'])
    for (const method of ['GET', 'POST', 'PUT', 'DELETE'])
      assert.ok(preflight.headers['access-control-allow-methods']!.includes(method))
    assert.equal(preflight.headers['access-control-allow-credentials'], undefined)
    const answer = await publish(open, page).expect(201)
    assert.equal(answer.headers['access-control-allow-origin'], origin)
    assert.equal(answer.headers['access-control-expose-headers'], '*')
    assert.match(answer.headers['vary']!, /origin/i)
    const problem = await open.get('/queues/nowhere').set(page).expect(404)
    assert.equal(problem.headers['access-control-allow-origin'], origin)

    const other = { origin: 'https://app.example.evil', 'sec-fetch-site': 'cross-site' }
    const refused = await publish(open, other).expect(403)
    assert.equal(refused.headers['access-control-allow-origin'], undefined)
    const notAllowed = await supertest(open.url)
      .options(messages)
      .set({ ...other, ...asked })
    assert.equal(notAllowed.headers['access-control-allow-origin'], undefined)
  })

  it('pages of a listed origin still need a key', async () => {
    const { gateway: guarded } = await startWithKeys({ CORS_ORIGINS: '*' })
    const page = { origin, 'sec-fetch-site': 'cross-site' }
    const preflight = await supertest(guarded.url)
      .options(messages)
      .set({ ...page, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' })
    assert.equal(preflight.status, 204)
    assert.equal(preflight.headers['access-control-allow-origin'], '*')
    const answer = await publish(guarded, page).expect(401)
    assert.equal(answer.headers['access-control-allow-origin'], '*')
  })
})

describe('host names', () => {
  const { send, close } = rawClient(gateway.url)
  after(close)
  const status = async (host: string, headers: object = { 'accept-language': 'en' }) =>
    (await send({ method: 'GET', path: `/queues/${queue}`, headers: { host, ...headers } })).status
  const { port } = new URL(gateway.url)

  it('a browser that uses an unknown host name for a loopback gateway is refused', async () => {
    for (const host of [
      'evil.example',
      `evil.example:${port}`,
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      'xlocalhost',
    ]) {
      assert.equal(await status(host), 403, host)
    }
  })

  it('a client that is not a browser may use any host name', async () => {
    assert.equal(await status('gateway.example', {}), 200)
  })

  it('a browser may use IP addresses and localhost', async () => {
    for (const host of [
      `127.0.0.1:${port}`,
      '127.0.0.1',
      'localhost',
      `LOCALHOST:${port}`,
      '[::1]',
      `[::1]:${port}`,
      '10.1.2.3',
      'a.localhost',
    ]) {
      assert.equal(await status(host), 200, host)
    }
  })

  it('ALLOWED_HOSTS limits the host names of all clients, with and without keys', async () => {
    const named = await startGateway({ ALLOWED_HOSTS: 'gateway.example, other.example' })
    const guarded = await startWithKeys({ ALLOWED_HOSTS: 'gateway.example' })
    for (const { url } of [named, guarded.gateway]) {
      const client = rawClient(url)
      after(client.close)
      const statusFor = async (host: string) =>
        (await client.send({ method: 'GET', path: '/health/live', headers: { host } })).status
      assert.equal(await statusFor('Gateway.Example:8080'), 200)
      assert.equal(await statusFor('evil.example'), 403)
    }
  })

  it('any host name is accepted if AUTH is set and ALLOWED_HOSTS is not', async () => {
    const guarded = await startWithKeys()
    const client = rawClient(guarded.gateway.url)
    after(client.close)
    assert.equal((await client.send({ method: 'GET', path: '/health/live', headers: { host: 'gateway.example' } })).status, 200)
  })
})

describe('security headers', () => {
  it('every response tells browsers to run nothing, guess no type and allow no framing', async () => {
    const text = freshName('raw')
    await gateway.put(`/queues/${text}`).expect(201)
    gateway.cleanups.push(async () => gateway.delete(`/queues/${text}`))
    await gateway.post(`/queues/${text}/messages`).type('text/html').send('<script>').expect(201)
    for (const response of [
      await gateway.get(`/queues/${queue}`),
      await gateway.get('/nowhere'),
      await gateway.get('/health/live'),
      await gateway.get(`/queues/${text}/messages?format=raw&ack=auto`),
    ]) {
      assert.equal(response.headers['x-content-type-options'], 'nosniff')
      assert.match(response.headers['content-security-policy']!, /default-src 'none'.*frame-ancestors 'none'/)
      assert.equal(response.headers['cross-origin-resource-policy'], 'same-origin')
      assert.equal(response.headers['referrer-policy'], 'no-referrer')
    }
    const { headers, status } = await gateway.get('/queues/%zz')
    assert.deepEqual([status, headers['x-content-type-options'], headers['referrer-policy']], [400, 'nosniff', 'no-referrer'])
    assert.match(headers['content-security-policy']!, /default-src 'none'/)
  })
})
