// Limits: how often somebody may ask, and how long he may take.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, type Gateway, startGateway } from '../support/gateway.js'

const POLICY = '"requests";q=3;w=60'

describe('RATE_LIMIT', () => {
  it('lets so many requests of an address in, says how many are left, and refuses the rest for a while', async () => {
    const gateway = await startGateway({ RATE_LIMIT: '3/m' })
    for (const left of [2, 1, 0]) {
      const response = await gateway.get('/queues/nowhere').expect(404)
      assert.equal(response.headers['ratelimit-policy'], POLICY)
      assert.match(response.headers['ratelimit']!, new RegExp(`^"requests";r=${left};t=[1-9]\\d*$`))
    }
    const refused = await gateway.get('/queues/nowhere').expect(429)
    assert.equal(refused.body.code, 'rate_limited')
    assert.equal(refused.body.retryable, true)
    assert.ok(Number(refused.headers['retry-after']) > 0 && Number(refused.headers['retry-after']) <= 60)
    assert.match(refused.headers['ratelimit']!, /r=0/)
    assert.equal((await gateway.get('/no/such/route').expect(429)).body.code, 'rate_limited')
  })

  it('does not count health, metrics and the docs', async () => {
    const gateway = await startGateway({ RATE_LIMIT: '1/h' })
    for (let i = 0; i < 3; i++) {
      for (const path of ['/health/live', '/health/ready', '/metrics', '/openapi.json'])
        assert.equal((await gateway.get(path).expect(200)).headers['ratelimit'], undefined)
    }
    await gateway.get('/queues/nowhere').expect(404)
    await gateway.get('/queues/nowhere').expect(429)
  })

  it('starts anew when its time is over', async () => {
    const gateway = await startGateway({ RATE_LIMIT: '1/s' })
    await gateway.get('/queues/nowhere').expect(404)
    await eventually(async () => gateway.get('/queues/nowhere').expect(404))
  })

  it('counts each key on its own, and those without one by their address', async () => {
    const { gateway, client } = await startWithKeys({ RATE_LIMIT: '3/m' })
    const [one, other] = [client('read:*/*'), client('read:*/*')]
    for (let i = 0; i < 3; i++) await gateway.get('/queues/nowhere').expect(401)
    await gateway.get('/queues/nowhere').expect(429)
    await gateway.get('/queues/nowhere').set('authorization', 'Bearer guess').expect(429)
    for (let i = 0; i < 3; i++) await one.get('/queues/nowhere').expect(404)
    await one.get('/queues/nowhere').expect(429)
    await other.get('/queues/nowhere').expect(404)
  })

  it('believes in X-Forwarded-For only what a trusted proxy says', async () => {
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
    // An address in IPv6 is a network's: whoever has one has 2^64 of them.
    await from(behind, '2001:db8::1').expect(404)
    await from(behind, '2001:db8::2').expect(404)
    await from(behind, '2001:db8::3').expect(429)
  })
})

/** A raw connection that keeps what it hears. */
async function dial({ url }: Gateway): Promise<{ socket: Socket; heard: () => string; closed: Promise<unknown> }> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  after(() => socket.destroy())
  socket.on('error', () => undefined)
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  const closed = once(socket, 'close')
  await once(socket, 'connect')
  return { socket, heard: () => text, closed }
}

describe('a slow client', () => {
  it('is cut off where its headers don’t come', async () => {
    const gateway = await startGateway({ HEADERS_TIMEOUT: '300ms' })
    for (const begun of ['', 'GET /health/live HTTP/1.1\r\nhost: lo']) {
      const { socket, heard, closed } = await dial(gateway)
      socket.write(begun)
      await closed
      assert.match(heard(), begun === '' ? /^$|^HTTP\/1\.1 408 / : /^HTTP\/1\.1 408 /)
    }
  })

  it('is cut off where its body stops, or trickles', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '400ms' })
    const queue = await freshQueue(gateway)
    const head = `POST /queues/${queue}/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n`
    for (const every of [0, 50]) {
      const { socket, heard, closed } = await dial(gateway)
      socket.write(`${head}the beginning`)
      const trickle = every > 0 && setInterval(() => socket.write('.'), every)
      await closed
      if (trickle) clearInterval(trickle)
      assert.match(heard(), /^HTTP\/1\.1 408 [\s\S]*"invalid_request"/)
    }
    const { body } = await gateway.get(`/queues/${queue}`).expect(200)
    assert.equal(body.message_count, 0)
  })

  it('may take its time with lines, which come as they happen', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '200ms' })
    const queue = await freshQueue(gateway)
    const { socket, heard, closed } = await dial(gateway)
    const headers = 'host: localhost\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close'
    socket.write(`POST /queues/${queue}/messages/batch HTTP/1.1\r\n${headers}\r\n\r\ne\r\n{"payload":1}\n\r\n`)
    const from = Date.now()
    await eventually(() => assert.ok(Date.now() - from > 1000))
    socket.write('e\r\n{"payload":2}\n\r\n0\r\n\r\n')
    await closed
    assert.match(heard(), /"published":2/)
  })

  it('is cut off where it is refused and goes on sending nothing', async () => {
    const { gateway } = await startWithKeys({ BODY_TIMEOUT: '300ms' })
    const { socket, heard, closed } = await dial(gateway)
    socket.write('POST /queues/q/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n')
    await closed
    assert.match(heard(), /^HTTP\/1\.1 401 /)
  })

  it('is cut off where it does not read its answer, and its messages go back', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '300ms' })
    const queue = await freshQueue(gateway)
    const body = Buffer.alloc(8 * 1024 * 1024, 'x')
    for (let i = 0; i < 3; i++)
      await gateway.post(`/queues/${queue}/messages`).type('text/plain').send(body.toString()).expect(201)
    const { socket, closed } = await dial(gateway)
    socket.pause()
    socket.write(`GET /queues/${queue}/messages?max=3&lease=10m HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    await eventually(() => assert.equal(gateway.app.services.leases.open, 3))
    await eventually(() => assert.equal(gateway.app.services.leases.open, 0), 20_000)
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 3))
    socket.resume()
    await closed
  })

  it('is let go where it keeps its connection and says nothing more', async () => {
    const gateway = await startGateway({ KEEP_ALIVE_TIMEOUT: '1s' })
    const { socket, heard, closed } = await dial(gateway)
    socket.write('GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await closed
    assert.match(heard(), /^HTTP\/1\.1 200 /)
  })

  it('is no client that waits for a message', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '200ms', HEADERS_TIMEOUT: '200ms', KEEP_ALIVE_TIMEOUT: '1s' })
    const queue = await freshQueue(gateway)
    const { body } = await gateway.get(`/queues/${queue}/messages?wait=3s`).expect(200)
    assert.deepEqual(body.messages, [])
  })
})

describe('MAX_CONNECTIONS', () => {
  it('closes what comes beyond it at once', async () => {
    const gateway = await startGateway({ MAX_CONNECTIONS: '3' })
    const few = await Promise.all(Array.from({ length: 3 }, () => dial(gateway)))
    const { closed, heard } = await dial(gateway)
    await closed
    assert.equal(heard(), '')
    for (const { socket } of few) socket.destroy()
    await eventually(async () => gateway.get('/health/live').expect(200))
  })
})

describe('OPERATIONS_PORT', () => {
  it('has health and metrics alone, and takes the metrics away from everybody else', async () => {
    const { gateway, file, clientOf } = await startWithKeys({ OPERATIONS_PORT: '0' })
    const key = file.add(['read:*/*'])
    clientOf(key)
    await gateway.app.operations!.listen({ host: '127.0.0.1', port: 0 })
    const address = gateway.app.operations!.server.address() as { port: number }
    const ask = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${address.port}${path}`)
      return { status: response.status, text: await response.text() }
    }
    assert.equal((await ask('/health/live')).status, 200)
    assert.equal((await ask('/health/ready')).status, 200)
    assert.match((await ask('/metrics')).text, /gateway_leases_open/)
    for (const path of ['/queues/q', '/docs', '/openapi.json', '/']) {
      const { status, text } = await ask(path)
      assert.equal(status, 404)
      assert.equal(JSON.parse(text).code, 'not_found')
    }
    const there = await fetch(`${gateway.url}/metrics`, { headers: { authorization: `Bearer ${key}` } })
    assert.equal(there.status, 404)
    await gateway.get('/health/live').expect(200)
  })
})
