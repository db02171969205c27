// RATE_LIMIT: how many requests one key or one address may make.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { type Gateway, startGateway } from '../support/gateway.js'

const POLICY = '"requests";q=3;w=60'

describe('RATE_LIMIT', () => {
  it('an address gets its number of requests, is told how many remain, and is then refused with Retry-After', async () => {
    const gateway = await startGateway({ RATE_LIMIT: '3/m' })
    for (const remaining of [2, 1, 0]) {
      const response = await gateway.get('/queues/nowhere').expect(404)
      assert.equal(response.headers['ratelimit-policy'], POLICY)
      assert.match(response.headers['ratelimit']!, new RegExp(`^"requests";r=${remaining};t=[1-9]\\d*$`))
    }
    const refused = await gateway.get('/queues/nowhere').expect(429)
    assert.equal(refused.body.code, 'rate_limited')
    assert.equal(refused.body.retryable, true)
    assert.ok(Number(refused.headers['retry-after']) > 0 && Number(refused.headers['retry-after']) <= 60)
    assert.match(refused.headers['ratelimit']!, /r=0/)
    assert.equal((await gateway.get('/no/such/route').expect(429)).body.code, 'rate_limited')
  })

  it('requests for health, metrics and the docs are not counted', async () => {
    const gateway = await startGateway({ RATE_LIMIT: '1/h' })
    for (let i = 0; i < 3; i++) {
      for (const path of ['/health/live', '/health/ready', '/metrics', '/openapi.json'])
        assert.equal((await gateway.get(path).expect(200)).headers['ratelimit'], undefined)
    }
    await gateway.get('/queues/nowhere').expect(404)
    await gateway.get('/queues/nowhere').expect(429)
  })

  it('requests are accepted again when the time window is over', async () => {
    const gateway = await startGateway({ RATE_LIMIT: '1/s' })
    await gateway.get('/queues/nowhere').expect(404)
    await eventually(async () => gateway.get('/queues/nowhere').expect(404))
  })

  it('each key has its own count, and requests without a valid key share that of their address', async () => {
    const { gateway, client } = await startWithKeys({ RATE_LIMIT: '3/m' })
    const [one, other] = [client('read:*/*'), client('read:*/*')]
    for (let i = 0; i < 3; i++) await gateway.get('/queues/nowhere').expect(401)
    await gateway.get('/queues/nowhere').expect(429)
    await gateway.get('/queues/nowhere').set('authorization', 'Bearer guess').expect(429)
    for (let i = 0; i < 3; i++) await one.get('/queues/nowhere').expect(404)
    await one.get('/queues/nowhere').expect(429)
    await other.get('/queues/nowhere').expect(404)
  })

  it('X-Forwarded-For counts only if a trusted proxy wrote it', async () => {
    const from = (gateway: Gateway, address: string) => gateway.get('/queues/nowhere').set('x-forwarded-for', address)
    const alone = await startGateway({ RATE_LIMIT: '2/m' })
    await from(alone, '192.0.2.1').expect(404)
    await from(alone, '192.0.2.2').expect(404)
    await from(alone, '192.0.2.3').expect(429)
    const behind = await startGateway({ RATE_LIMIT: '2/m', TRUST_PROXY: '127.0.0.0/8' })
    for (let i = 0; i < 2; i++) await from(behind, '192.0.2.1').expect(404)
    await from(behind, '192.0.2.1').expect(429)
    await from(behind, '192.0.2.2').expect(404)
    await from(behind, '192.0.2.9, 192.0.2.1').expect(429)
    // IPv6 addresses are counted by /64, since a client with one address has its whole network.
    await from(behind, '2001:db8::1').expect(404)
    await from(behind, '2001:db8::2').expect(404)
    await from(behind, '2001:db8::3').expect(429)
  })
})
