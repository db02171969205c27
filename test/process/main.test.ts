// The process: its configuration, its logs and its shutdown.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName } from '../support/gateway.js'
import { listeningGateway, readyGateway, spawnGateway } from '../support/process.js'

interface Message {
  payload: string
  redelivered: boolean
  lease: { id: string }
}

async function declareAndPublish(url: string, count: number): Promise<string> {
  const queue = freshName()
  assert.equal((await fetch(`${url}/queues/${queue}`, { method: 'PUT' })).status, 201)
  for (let i = 0; i < count; i++) {
    assert.equal((await fetch(`${url}/queues/${queue}/messages`, { method: 'POST', body: `${i}` })).status, 201)
  }
  return queue
}

async function receive(url: string, queue: string, query = ''): Promise<Message[]> {
  const response = await fetch(`${url}/queues/${queue}/messages${query}`)
  assert.equal(response.status, 200)
  return ((await response.json()) as { messages: Message[] }).messages
}

describe('process', () => {
  it('a process with mistakes in its environment lists all of them and exits with 78', async () => {
    const gateway = spawnGateway({
      PORT: 'eighty',
      MAX_MESSAGE_SIZE: 'big',
      AMQP_URLS: 'amqp://x',
      GATEWAY_PORT: '1',
      HOST: '0.0.0.0',
    })
    assert.equal(await gateway.exited, 78)
    for (const name of ['PORT', 'MAX_MESSAGE_SIZE', 'AMQP_URLS', 'GATEWAY_PORT', 'HOST'])
      assert.match(gateway.output(), new RegExp(`^\\s*${name}\\b`, 'm'))
  })

  it('a process with a public HOST starts only if AUTH is set', async () => {
    const refused = spawnGateway({ HOST: '0.0.0.0', PORT: '0' })
    assert.equal(await refused.exited, 78)
    assert.match(refused.output(), /AUTH=none/)
    await listeningGateway({ HOST: '0.0.0.0', AUTH: 'none', AMQP_URL })
  })

  it('a process without a broker is live but not ready, and refuses publishes', async () => {
    const gateway = await listeningGateway({ AMQP_URL: 'amqp://user:s3cret@127.0.0.1:1/' })
    assert.equal((await fetch(`${gateway.url}/health/live`)).status, 200)
    assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 503)
    const publish = await fetch(`${gateway.url}/queues/q/messages`, { method: 'POST', body: 'x' })
    assert.equal(publish.status, 503)
    assert.equal(((await publish.json()) as { code: string }).code, 'broker_unavailable')
    assert.ok(Number(publish.headers.get('retry-after')) > 0)
    assert.ok(!gateway.output().includes('s3cret'))
  })

  it('the log is JSON without credentials, and has ordinary requests only with LOG_REQUESTS=all', async () => {
    const quiet = await readyGateway({ AMQP_URL })
    await fetch(`${quiet.url}/queues/nowhere`)
    const loud = await readyGateway({ AMQP_URL, LOG_REQUESTS: 'all' })
    await fetch(`${loud.url}/queues/nowhere`, { headers: { 'x-request-id': 'find-me', authorization: 'Bearer s3cret' } })
    await eventually(() => assert.match(loud.output(), /find-me/))
    assert.ok(!/nowhere/.test(quiet.output()))
    assert.ok(!/s3cret/.test(loud.output()))
    for (const line of loud.output().trim().split('\n')) JSON.parse(line)
  })

  it('after SIGTERM leases can be settled during the drain time, the others return, and the exit code is 0', async () => {
    const gateway = await readyGateway({ AMQP_URL, SHUTDOWN_DRAIN: '2s' })
    const other = await readyGateway({ AMQP_URL })
    const queue = await declareAndPublish(gateway.url, 3)
    const [first] = await receive(gateway.url, queue, '?lease=10m')
    const [second] = await receive(gateway.url, queue, '?lease=10m')
    const poll = receive(gateway.url, await declareAndPublish(gateway.url, 0), '?wait=60s')
    await eventually(async () => {
      assert.match(await (await fetch(`${gateway.url}/metrics`)).text(), /^gateway_receives_waiting 1$/m)
    })
    gateway.child.kill('SIGTERM')
    assert.deepEqual(await poll, [])
    const ready = await fetch(`${gateway.url}/health/ready`)
    assert.equal(ready.status, 503)
    assert.equal((await fetch(`${gateway.url}/leases/${first!.lease.id}/ack`, { method: 'POST' })).status, 204)
    assert.equal(await gateway.exited, 0)
    assert.equal((await fetch(`${other.url}/leases/${second!.lease.id}/ack`, { method: 'POST' })).status, 410)
    const left = await receive(other.url, queue, '?max=10&wait=5s&ack=auto')
    assert.deepEqual(
      left.map(({ payload }) => payload),
      ['1', '2'],
    )
    await fetch(`${other.url}/queues/${queue}`, { method: 'DELETE' })
  })

  it('after SIGTERM a process is not ready at once, and serves everything until SHUTDOWN_DELAY is over', async () => {
    const gateway = await readyGateway({ AMQP_URL, SHUTDOWN_DELAY: '2s' })
    const queue = await declareAndPublish(gateway.url, 1)
    const from = Date.now()
    gateway.child.kill('SIGTERM')
    await eventually(async () => assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 503), 1500)
    const published = await fetch(`${gateway.url}/queues/${queue}/messages`, { method: 'POST', body: 'x' })
    assert.deepEqual([published.status, published.headers.get('connection')], [201, 'close'])
    assert.equal((await receive(gateway.url, queue, '?ack=auto&max=10')).length, 2)
    assert.equal(await gateway.exited, 0)
    assert.ok(Date.now() - from >= 2000, `${Date.now() - from} ms`)
  })

  it('a second signal ends SHUTDOWN_DELAY, and the process still exits with 0', async () => {
    const gateway = await readyGateway({ AMQP_URL, SHUTDOWN_DELAY: '10m' })
    gateway.child.kill('SIGTERM')
    await eventually(async () => assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 503))
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
  })

  it('a process without leases exits on SIGTERM without waiting for the drain time', async () => {
    const gateway = await readyGateway({ AMQP_URL })
    const from = Date.now()
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
    assert.ok(Date.now() - from < 15_000)
  })
})
