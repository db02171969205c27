// What trusted proxies say of a request: the client's address in all its forms, and the path under which clients see the gateway.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshQueue, type Gateway, startGateway } from '../support/gateway.js'

const MAX = 100
const behind = await startGateway({ TRUST_PROXY: 'loopback,192.0.2.0/24,2001:db8:ffff::/48', RATE_LIMIT: `${MAX}/h` })

/** How many requests the client of this one has made. */
async function count(headers: Record<string, string>, gateway: Gateway = behind): Promise<number> {
  const answer = await gateway.get('/queues/nowhere').set(headers).expect(404)
  return MAX - Number(/r=(\d+)/.exec(answer.headers['ratelimit'] ?? '')?.[1])
}

/** Expects that all of these come from one client, which no request before came from. */
async function expectOneClient(requests: Record<string, string>[]): Promise<void> {
  for (const [index, headers] of requests.entries()) assert.equal(await count(headers), index + 1, JSON.stringify(headers))
}

describe('the address of a client behind a proxy', () => {
  it('is the same with a port and without', async () => {
    const entries = ['203.0.113.8', '203.0.113.8:1111', ' 203.0.113.8:2222 ', '[::ffff:203.0.113.8]:1', '::ffff:203.0.113.8']
    await expectOneClient(entries.map((entry) => ({ 'x-forwarded-for': entry })))
  })

  it('is the /64 of an IPv6 address, with brackets and without', async () => {
    const entries = ['2001:db8::8', '[2001:db8::8]', '[2001:db8::8]:4711', '2001:db8::9', '[2001:0DB8:0::a]:1']
    await expectOneClient(entries.map((entry) => ({ 'x-forwarded-for': entry })))
  })

  it('is the last one that no trusted proxy has', async () => {
    const entries = [
      '203.0.113.20',
      '198.51.100.99, 203.0.113.20:77',
      '203.0.113.20, 192.0.2.5:80',
      '6.6.6.6, 203.0.113.20, [2001:db8:ffff::1]:9, 192.0.2.1',
    ]
    await expectOneClient(entries.map((entry) => ({ 'x-forwarded-for': entry })))
  })

  it('is that of the proxy if the entry is no address, whatever it is', async () => {
    const own = await startGateway({ TRUST_PROXY: 'loopback', RATE_LIMIT: `${MAX}/h` })
    const odd = [
      'unknown',
      'unknown1',
      '_hidden',
      '203.0.113.8.9',
      '203.0.113.8:1:2',
      '[203.0.113',
      '999.1.1.1',
      '',
      ',',
      '203.0.113.5, unknown7',
      'fe80::1%eth0',
    ]
    for (const [index, entry] of odd.entries()) assert.equal(await count({ 'x-forwarded-for': entry }, own), index + 1, entry)
    assert.equal(await count({ 'x-forwarded-for': 'unknown, 203.0.113.5' }, own), 1)
  })

  it('is read from Forwarded if there is no X-Forwarded-For', async () => {
    const entries = [
      'for=203.0.113.30',
      'For="203.0.113.30:4711"',
      'for=203.0.113.30;proto=https;by=203.0.113.43',
      'proto=http;for="203.0.113.30:_port"',
      'for=198.51.100.1, for=203.0.113.30, for=192.0.2.9',
      'for="_x,for=1.2.3.4", for=203.0.113.30',
    ]
    await expectOneClient(entries.map((forwarded) => ({ forwarded })))
    await expectOneClient([{ forwarded: 'for="[2001:db8:0:30::1]:47"' }, { forwarded: 'FOR="[2001:db8:0:30::2]"' }])
    assert.equal(await count({ forwarded: 'for=203.0.113.31', 'x-forwarded-for': '203.0.113.30' }), entries.length + 1)
  })

  it('is not read from anybody who is not trusted', async () => {
    const own = await startGateway({ RATE_LIMIT: `${MAX}/h` })
    for (const [index, headers] of [{ 'x-forwarded-for': '203.0.113.1' }, { forwarded: 'for=203.0.113.2' }].entries())
      assert.equal(await count(headers, own), index + 1)
  })

  it('counts with AUTH=broker, so that nobody guesses passwords from changing ports', async () => {
    const own = await startGateway({ AUTH: 'broker', TRUST_PROXY: 'loopback' })
    const guess = async (n: number) =>
      (
        await own
          .get('/queues/nowhere')
          .auth('nobody', `wrong${n}`)
          .set('x-forwarded-for', `203.0.113.9:${1000 + n}`)
      ).status
    await eventually(async () => assert.equal(await guess(Math.floor(Math.random() * 60_000)), 429))
  })
})

describe('the path under which clients see the gateway', () => {
  const typeAt = async (gateway: Gateway, headers: Record<string, string>) =>
    (await gateway.get('/queues/nowhere').set(headers).expect(404)).body.type as string

  it('is read from X-Forwarded-Prefix of a trusted proxy', async () => {
    for (const [prefix, type] of [
      ['/mq', '/mq/problems#queue_not_found'],
      ['/mq/', '/mq/problems#queue_not_found'],
      ['/a, /b/c', '/a/b/c/problems#queue_not_found'],
      ['/', '/problems#queue_not_found'],
    ] as const)
      assert.equal(await typeAt(behind, { 'x-forwarded-prefix': prefix }), type, prefix)
    const alone = await startGateway()
    assert.equal(await typeAt(alone, { 'x-forwarded-prefix': '/mq' }), '/problems#queue_not_found')
  })

  it('is ignored if it could lead elsewhere', async () => {
    for (const prefix of [
      '//evil.example',
      'https://evil.example',
      '/a//b',
      '/\\evil',
      '/a"><b',
      'mq',
      '/a?b',
      '/a#b',
      `/${'x'.repeat(300)}`,
      '/mq, //x',
    ])
      assert.equal(await typeAt(behind, { 'x-forwarded-prefix': prefix }), '/problems#queue_not_found', prefix)
  })

  it('is that of PUBLIC_URL if it is set, whatever a proxy says', async () => {
    const own = await startGateway({ PUBLIC_URL: 'https://example.com/mq/', TRUST_PROXY: 'loopback' })
    assert.equal(await typeAt(own, { 'x-forwarded-prefix': '/other' }), '/mq/problems#queue_not_found')
    const queue = await freshQueue(own)
    await own.post(`/queues/${queue}/messages`).send('x').expect(201)
    const raw = await own.get(`/queues/${queue}/messages?format=raw&wait=5s`).expect(200)
    assert.equal(raw.headers['location'], `/mq/leases/${raw.headers['lease-id']}`)
    for (const path of ['/openapi.json', '/docs/json'])
      assert.deepEqual((await own.get(path).expect(200)).body.servers, [{ url: 'https://example.com/mq' }])
    assert.equal((await own.get('/').expect(302)).headers['location'], '/mq/docs/')
  })
})
