// Cross-origin requests: pages of other origins may use the gateway only if CORS_ORIGINS names them.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import supertest from 'supertest'
import { request, fetch as undiciFetch } from 'undici'
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

describe('browsers that receive by GET', () => {
  // Over plain HTTP, except to loopback, browsers send none of the `sec-fetch-` headers.
  const CHROME = {
    'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36',
    'accept-language': 'en-US,en;q=0.9',
  }
  const BROWSERS: Record<string, string>[] = [
    CHROME,
    { 'user-agent': CHROME['user-agent'] },
    // A page can set this header, but not the user agent.
    { ...CHROME, 'accept-language': '*' },
    { 'accept-language': 'en' },
    { 'accept-language': '' },
    { 'sec-fetch-mode': 'no-cors' },
    { 'sec-fetch-dest': 'image' },
    { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate', 'sec-fetch-user': '?1' },
    { ...CHROME, referer: 'http://evil.example/page' },
    { ...CHROME, referer: 'about:blank' },
    { ...CHROME, referer: 'not a URL' },
    { ...CHROME, referer: `${gateway.url}.evil.example/` },
    { ...CHROME, 'sec-fetch-site': 'cross-site', referer: `${gateway.url}/docs` },
    { ...CHROME, origin: 'null' },
  ]
  const PROGRAMS: Record<string, string>[] = [
    {},
    { 'user-agent': 'curl/8.5.0', accept: '*/*' },
    { 'user-agent': 'Wget/1.21.3', accept: '*/*', 'accept-encoding': 'identity' },
    { 'user-agent': 'python-requests/2.32.3', accept: '*/*', 'accept-encoding': 'gzip, deflate' },
    { 'user-agent': 'Go-http-client/1.1', 'accept-encoding': 'gzip' },
    { 'user-agent': 'GuzzleHttp/7' },
    { 'user-agent': 'Java/17.0.9', accept: 'text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2' },
    { 'user-agent': 'Java-http-client/17.0.9' },
    { 'user-agent': 'node', accept: '*/*', 'accept-language': '*', 'sec-fetch-mode': 'cors' },
    { 'user-agent': 'Deno/2.5.0', accept: '*/*', 'accept-language': '*' },
    { 'user-agent': 'Mozilla/5.0 (Windows NT 10.0; Microsoft Windows 10.0.22631; en-US) PowerShell/7.4.6' },
  ]
  const PATHS = [`${messages}?ack=requeue`, `/vhosts/%2F${messages}?ack=requeue`]

  it('a link, an image or a typed address receives nothing and opens no stream', async () => {
    for (const headers of BROWSERS) {
      for (const path of [...PATHS, `/queues/${queue}/stream`]) {
        const response = await gateway.get(path).set(headers).expect(403)
        assert.equal(response.body.code, 'access_refused', JSON.stringify(headers))
      }
    }
  })

  it('a page of the gateway receives', async () => {
    const pages: Record<string, string>[] = [
      { referer: `${gateway.url}/docs/` },
      { origin: gateway.url },
      { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' },
    ]
    for (const page of pages)
      for (const path of PATHS)
        await gateway
          .get(path)
          .set({ ...CHROME, ...page })
          .expect(200)
  })

  it('programs receive with the headers that their HTTP libraries send', async () => {
    for (const headers of PROGRAMS) for (const path of PATHS) await gateway.get(path).set(headers).expect(200)
    const fetched = await fetch(gateway.url + PATHS[0])
    assert.equal(fetched.status, 200, 'the fetch of this Node.js')
    assert.equal((await request(gateway.url + PATHS[0])).statusCode, 200, "undici's request")
    assert.equal((await undiciFetch(gateway.url + PATHS[0])).status, 200, "undici's fetch")
  })

  it('a browser sees the health of the gateway from anywhere', async () => {
    for (const headers of BROWSERS.filter(({ origin }) => origin === undefined))
      await gateway.get('/health/ready').set(headers).expect(200)
  })

  it('pages of a listed origin receive, and images that name no page do not, even if every origin is listed', async () => {
    const listed = await startGateway({ CORS_ORIGINS: 'https://app.example' })
    const from = (origin: string): Record<string, string>[] => [
      { ...CHROME, origin },
      { ...CHROME, origin, 'sec-fetch-site': 'cross-site' },
    ]
    for (const page of [...from('https://app.example'), { ...CHROME, referer: 'https://app.example/list?q=1' }])
      await listed.get(PATHS[0]!).set(page).expect(200)
    for (const page of from('https://app.example.evil.example')) await listed.get(PATHS[0]!).set(page).expect(403)
    await listed.get(PATHS[0]!).set(CHROME).expect(403)

    const { admin } = await startWithKeys({ CORS_ORIGINS: '*' })
    for (const page of from('https://any.example')) await admin.get(PATHS[0]!).set(page).expect(200)
    const image = { ...CHROME, 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'image' }
    for (const headers of [image, { ...image, referer: 'https://any.example/' }, CHROME])
      await admin.get(PATHS[0]!).set(headers).expect(403)
  })

  it('the docs tell browsers to send a referrer to the gateway and to nobody else', async () => {
    assert.equal((await gateway.get('/docs/').expect(200)).headers['referrer-policy'], 'same-origin')
  })
})

describe('host names', () => {
  /** A function that requests a path with a host, and gives the status. */
  function hosts({ url }: Gateway) {
    const { send, close } = rawClient(url)
    after(close)
    return async (host: string, headers: object = {}, path = `/queues/${queue}`) =>
      (await send({ method: 'GET', path, headers: { host, ...headers } })).status
  }
  /** As in a container. */
  const everywhere = startGateway({ AUTH: 'none', HOST: '0.0.0.0', TRUST_PROXY: 'loopback' })
  const { port } = new URL(gateway.url)
  const FOREIGN = [
    'evil.example',
    `evil.example:${port}`,
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'xlocalhost',
    'gateway',
  ]
  const OWN = [
    `127.0.0.1:${port}`,
    '127.0.0.1',
    'localhost',
    `LOCALHOST:${port}`,
    'localhost.',
    '[::1]',
    `[::1]:${port}`,
    '10.1.2.3',
    'a.localhost',
  ]

  it('a gateway without authentication refuses unknown host names, on loopback and on every address', async () => {
    for (const status of [hosts(gateway), hosts(await everywhere)]) {
      for (const host of FOREIGN) {
        assert.equal(await status(host), 403, host)
        // A page that points its own name at the gateway has the same origin.
        assert.equal(await status(host, { 'accept-language': 'en', origin: `http://${host}` }), 403, host)
      }
      for (const host of OWN) assert.equal(await status(host, { 'accept-language': 'en' }), 200, host)
    }
  })

  it('health is open under every host name', async () => {
    for (const path of ['/health/live', '/health/ready'])
      assert.equal(await hosts(await everywhere)('evil.example', {}, path), 200)
  })

  it('a trusted proxy names the host that the client asked for', async () => {
    const status = hosts(await everywhere)
    assert.equal(await status('upstream', { 'x-forwarded-host': 'localhost' }), 200)
    assert.equal(await status('127.0.0.1', { 'x-forwarded-host': 'evil.example' }), 403)
    assert.equal(await hosts(gateway)('evil.example', { 'x-forwarded-host': 'localhost' }), 403)
  })

  it('ALLOWED_HOSTS limits the host names of all clients, with and without keys', async () => {
    const named = await startGateway({ ALLOWED_HOSTS: 'gateway.example, other.example', AUTH: 'none', HOST: '0.0.0.0' })
    const guarded = await startWithKeys({ ALLOWED_HOSTS: 'gateway.example' })
    for (const [status, expected] of [
      [hosts(named), 200],
      [hosts(guarded.gateway), 401],
    ] as const) {
      assert.equal(await status('Gateway.Example:8080'), expected)
      assert.equal(await status('127.0.0.1'), expected)
      assert.equal(await status('evil.example'), 403)
      assert.equal(await status('evil.example', {}, '/metrics'), 403)
      assert.equal(await status('evil.example', {}, '/health/live'), 200)
    }
  })

  it('any host name is accepted if AUTH is set and ALLOWED_HOSTS is not', async () => {
    const status = hosts((await startWithKeys()).gateway)
    assert.equal(await status('gateway.example'), 401)
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
