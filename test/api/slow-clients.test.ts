// Clients that stop halfway: the gateway closes their connections in time, but not those of clients that wait for a message.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { dial } from '../support/http.js'

describe('slow clients', () => {
  it('a client that does not finish its headers within HEADERS_TIMEOUT is closed with 408', async () => {
    const gateway = await startGateway({ HEADERS_TIMEOUT: '300ms' })
    for (const begun of ['', 'GET /health/live HTTP/1.1\r\nhost: lo']) {
      const { socket, received, closed } = await dial(gateway)
      socket.write(begun)
      await closed
      assert.match(received(), begun === '' ? /^$|^HTTP\/1\.1 408 / : /^HTTP\/1\.1 408 /)
    }
  })

  it('a client whose body stops or trickles is closed with 408, and nothing is published', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '400ms' })
    const queue = await freshQueue(gateway)
    const head = `POST /queues/${queue}/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n`
    for (const every of [0, 50]) {
      const { socket, received, closed } = await dial(gateway)
      socket.write(`${head}the beginning`)
      const trickle = every > 0 && setInterval(() => socket.write('.'), every)
      await closed
      if (trickle) clearInterval(trickle)
      assert.match(received(), /^HTTP\/1\.1 408 [\s\S]*"invalid_request"/)
    }
    const { body } = await gateway.get(`/queues/${queue}`).expect(200)
    assert.equal(body.message_count, 0)
  })

  it('an NDJSON upload may pause for longer than BODY_TIMEOUT', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '400ms' })
    const queue = await freshQueue(gateway)
    const { socket, received, closed } = await dial(gateway)
    const headers = 'host: localhost\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close'
    socket.write(`POST /queues/${queue}/messages/batch HTTP/1.1\r\n${headers}\r\n\r\ne\r\n{"payload":1}\n\r\n`)
    await new Promise((resolve) => setTimeout(resolve, 1000))
    socket.write('e\r\n{"payload":2}\n\r\n0\r\n\r\n')
    await closed
    assert.match(received(), /"published":2/)
  })

  it('a refused client that does not finish its body is closed', async () => {
    const { gateway } = await startWithKeys({ BODY_TIMEOUT: '300ms' })
    const { socket, received, closed } = await dial(gateway)
    socket.write('POST /queues/q/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n')
    await closed
    assert.match(received(), /^HTTP\/1\.1 401 /)
  })

  it('a client that does not read its response is closed, and its messages go back to the queue', async () => {
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

  it('an idle connection is closed after KEEP_ALIVE_TIMEOUT', async () => {
    const gateway = await startGateway({ KEEP_ALIVE_TIMEOUT: '1s' })
    const { socket, received, closed } = await dial(gateway)
    socket.write('GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await closed
    assert.match(received(), /^HTTP\/1\.1 200 /)
  })

  it('a client that waits for a message outlasts all three timeouts', async () => {
    const gateway = await startGateway({ BODY_TIMEOUT: '200ms', HEADERS_TIMEOUT: '200ms', KEEP_ALIVE_TIMEOUT: '1s' })
    const queue = await freshQueue(gateway)
    const { body } = await gateway.get(`/queues/${queue}/messages?wait=3s`).expect(200)
    assert.deepEqual(body.messages, [])
  })
})
