// Health, metrics, request ids and the separate port for operations.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { startWithKeys } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'

const gateway = await startGateway()

describe('operations', () => {
  it('a connected gateway is live and ready', async () => {
    await gateway.get('/health/live').expect(200, { status: 'live' })
    await gateway.get('/health/ready').expect(200, { status: 'ready' })
    await gateway.call('head', '/health/ready').expect(200)
  })

  it('readiness says what is wrong in fixed words, without addresses or errors', async () => {
    const app = await buildApp(loadConfig({ AMQP_URL: 'amqp://127.0.0.1:1', LOG_LEVEL: 'silent' }))
    after(() => app.close())
    const read = async () => (await app.http.inject('/health/ready')).json().reason
    await eventually(async () => assert.equal(await read(), 'the broker connection that publishes is down'))
    const { body } = await app.http.inject('/queues/q')
    assert.ok(!/127\.0\.0\.1|ECONNREFUSED|refused/.test(body), body)
  })

  it('a draining gateway is not ready, ends waiting receives, refuses new ones and still settles leases', async () => {
    const other = await startGateway()
    const queue = await freshQueue(other)
    await other.post(`/queues/${queue}/messages`).send('x').expect(201)
    const [message] = (await other.get(`/queues/${queue}/messages`).expect(200)).body.messages
    const poll = other.get(`/queues/${queue}/messages?wait=60s`).expect(200)
    const answered = poll.then((response) => response.body)
    while (other.app.services.receiver.waiting === 0) await new Promise((resolve) => setImmediate(resolve))
    other.app.services.drain()
    assert.deepEqual(await answered, { messages: [] })
    assert.match((await other.get('/health/ready').expect(503)).body.reason, /shut/)
    assert.equal((await other.get(`/queues/${queue}/messages`).expect(503)).body.code, 'shutting_down')
    await other.post(`/leases/${message.lease.id}/ack`).expect(204)
  })

  it('the metrics show publishes, leases, broker connections and requests', async () => {
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

  it('METRICS=off and DOCS=off remove the metrics and the docs', async () => {
    const bare = await startGateway({ METRICS: 'off', DOCS: 'off' })
    for (const path of ['/metrics', '/docs', '/openapi.json']) {
      const response = await fetch(bare.url + path)
      assert.equal(response.status, 404)
      assert.equal(((await response.json()) as { code: string }).code, 'not_found')
    }
  })

  it('a valid request id of the client appears in the response and the problem', async () => {
    const own = await gateway.get('/nowhere').set('x-request-id', 'job-42.a_b').expect(404)
    assert.equal(own.headers['x-request-id'], 'job-42.a_b')
    assert.equal(own.body.request_id, 'job-42.a_b')
    const made = await gateway.get('/nowhere').set('x-request-id', 'not an id').expect(404)
    assert.match(made.headers['x-request-id']!, /^[0-9a-f-]{36}$/)
  })
})

describe('OPERATIONS_PORT', () => {
  it('the port for operations serves health and metrics only, and the main port no longer serves metrics', async () => {
    const { gateway, file, clientOf } = await startWithKeys({ OPERATIONS_PORT: '0' })
    const key = file.add(['read:*/*'])
    clientOf(key)
    await gateway.app.operations!.listen({ host: '127.0.0.1', port: 0 })
    const address = gateway.app.operations!.server.address() as { port: number }
    const get = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${address.port}${path}`)
      return { status: response.status, text: await response.text() }
    }
    assert.equal((await get('/health/live')).status, 200)
    assert.equal((await get('/health/ready')).status, 200)
    assert.match((await get('/metrics')).text, /gateway_leases_open/)
    for (const path of ['/queues/q', '/docs', '/openapi.json', '/']) {
      const { status, text } = await get(path)
      assert.equal(status, 404)
      assert.equal(JSON.parse(text).code, 'not_found')
    }
    const onMainPort = await fetch(`${gateway.url}/metrics`, { headers: { authorization: `Bearer ${key}` } })
    assert.equal(onMainPort.status, 404)
    await gateway.get('/health/live').expect(200)
  })
})
