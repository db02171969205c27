// Health, metrics, and what every response has.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()

describe('operations', () => {
  it('tells life and readiness', async () => {
    await gateway.get('/health/live').expect(200, { status: 'live' })
    await gateway.get('/health/ready').expect(200, { status: 'ready' })
    await gateway.call('head', '/health/ready').expect(200)
  })

  it('is not ready, and receives nothing, while it drains', async () => {
    const other = await startGateway()
    const queue = await freshQueue(other)
    await other.post(`/queues/${queue}/messages`).send('x').expect(201)
    const [message] = (await other.get(`/queues/${queue}/messages`).expect(200)).body.messages
    const poll = other.get(`/queues/${queue}/messages?wait=60s`).expect(200)
    const answered = poll.then((response) => response.body)
    while (other.app.services.receiver.waiting === 0) await new Promise((resolve) => setImmediate(resolve))
    other.app.services.drain()
    assert.deepEqual(await answered, { messages: [] })
    assert.equal((await other.get('/health/ready').expect(503)).body.reason, 'shutting down')
    assert.equal((await other.get(`/queues/${queue}/messages`).expect(503)).body.code, 'shutting_down')
    await other.post(`/leases/${message.lease.id}/ack`).expect(204)
  })

  it('shows metrics', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    await gateway.post('/queues/nowhere/messages').send('x').expect(404)
    const [message] = (await gateway.get(`/queues/${queue}/messages`).expect(200)).body.messages
    const read = async () => (await gateway.get('/metrics').expect(200)).text
    const open = await read()
    assert.match(open, /^gateway_publishes_total\{outcome="confirmed"\} 1$/m)
    assert.match(open, /^gateway_publishes_total\{outcome="unroutable"\} 1$/m)
    assert.match(open, /^gateway_leases_open 1$/m)
    assert.match(open, /^gateway_broker_connections\{role="lease",state="up"\} 2$/m)
    assert.match(
      open,
      /^gateway_http_request_duration_seconds_count\{method="POST",route="\/queues\/:queue\/messages",status="201"\} 1$/m,
    )
    assert.match(open, /^nodejs_eventloop_lag_seconds /m)
    await gateway.post(`/leases/${message.lease.id}/ack`).expect(204)
    assert.match(await read(), /^gateway_leases_ended_total\{outcome="acked"\} 1$/m)
  })

  it('can go without metrics and docs', async () => {
    const bare = await startGateway({ METRICS: 'off', DOCS: 'off' })
    for (const path of ['/metrics', '/docs', '/openapi.json']) {
      const response = await fetch(bare.url + path)
      assert.equal(response.status, 404)
      assert.equal(((await response.json()) as { code: string }).code, 'not_found')
    }
  })

  it('takes the client’s request id where it is one', async () => {
    const own = await gateway.get('/nowhere').set('x-request-id', 'job-42.a_b').expect(404)
    assert.equal(own.headers['x-request-id'], 'job-42.a_b')
    assert.equal(own.body.request_id, 'job-42.a_b')
    const made = await gateway.get('/nowhere').set('x-request-id', 'not an id').expect(404)
    assert.match(made.headers['x-request-id']!, /^[0-9a-f-]{36}$/)
  })
})
