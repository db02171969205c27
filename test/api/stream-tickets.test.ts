// Tickets: streams for clients that can send no credentials.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startWithKeys, withAuthorization } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshName, type Gateway, startGateway } from '../support/gateway.js'
import { AUDIENCE, ISSUER, keySetFile, newKey, token } from '../support/issuer.js'
import { openStream } from '../support/stream.js'

const { gateway, file, admin, client, clientOf } = await startWithKeys()

async function freshQueue(declaration: object = {}): Promise<string> {
  const queue = freshName('queue')
  await admin.put(`/queues/${queue}`).send(declaration).expect(201)
  gateway.cleanups.push(async () => admin.delete(`/queues/${queue}`))
  return queue
}

/** Expects that a stream is refused with this status and code. */
async function refused(url: string, status: number, code: string, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(url, { headers })
  const body = (await response.json()) as { code: string; detail: string }
  assert.deepEqual([response.status, body.code], [status, code], body.detail)
}

describe('tickets for streams', () => {
  it('a ticket opens its stream without credentials, with the parameters that it was made with', async () => {
    const queue = await freshQueue()
    await admin.post(`/queues/${queue}/messages`).send('one').expect(201)
    const reader = client(`read:*/${queue}`)
    const { body } = await reader.post(`/queues/${queue}/stream/ticket?ack=auto&encoding=base64`).expect(201)
    assert.equal(body.url, `/queues/${queue}/stream?ticket=${body.ticket}`)
    const left = Date.parse(body.expires_at) - Date.now()
    assert.ok(left > 0 && left <= 60_000, `${left} ms`)
    const stream = await openStream(`${gateway.url}${body.url}`)
    const [message] = await stream.until(1)
    assert.equal(message!.payload, Buffer.from('one').toString('base64'))
    assert.equal(message!.lease, undefined)
    stream.leave()
  })

  it('a ticket works for a vhost in the path', async () => {
    const { defaultName } = gateway.app.services.vhosts
    const queue = await freshQueue()
    const path = `/vhosts/${encodeURIComponent(defaultName)}/queues/${queue}`
    const { body } = await admin.post(`${path}/stream/ticket`).expect(201)
    assert.equal(body.url, `${path}/stream?ticket=${body.ticket}`)
    for (const url of [body.url, `/queues/${queue}/stream?ticket=${body.ticket}`]) {
      const stream = await openStream(`${gateway.url}${url}`)
      assert.equal(stream.response.statusCode, 200)
      stream.leave()
    }
  })

  it('a ticket is for its own stream alone', async () => {
    const [queue, other] = [await freshQueue(), await freshQueue()]
    const { ticket } = (await admin.post(`/queues/${queue}/stream/ticket`).expect(201)).body
    await refused(`${gateway.url}/queues/${other}/stream?ticket=${ticket}`, 401, 'unauthorized')
    await refused(`${gateway.url}/vhosts/other/queues/${queue}/stream?ticket=${ticket}`, 401, 'unauthorized')
    await refused(`${gateway.url}/queues/${queue}/stream?ticket=${ticket}&ack=auto`, 400, 'invalid_request')
    await refused(`${gateway.url}/queues/${queue}/stream?ticket=x`, 401, 'unauthorized')
    await refused(`${gateway.url}/queues/${queue}/stream?ticket=${ticket}&ticket=${ticket}`, 400, 'invalid_request')
    await refused(`${gateway.url}/queues/${queue}?ticket=${ticket}`, 401, 'unauthorized')
    await refused(`${gateway.url}/queues/${queue}/messages?ticket=${ticket}`, 401, 'unauthorized')
  })

  it('a ticket requires the right to read the queue, and parameters that the stream accepts', async () => {
    const queue = await freshQueue()
    await client(`write:*/${queue}`).post(`/queues/${queue}/stream/ticket`).expect(403)
    await gateway.post(`/queues/${queue}/stream/ticket`).expect(401)
    for (const query of ['prefetch=0', 'lease=1', 'ack=requeue', 'offset=tomorrow', 'ticket=x', 'lease=100d'])
      if (query !== 'lease=1') await admin.post(`/queues/${queue}/stream/ticket?${query}`).expect(400)
  })

  it('a ticket is worth nothing once its key is withdrawn', async () => {
    const queue = await freshQueue()
    const reader = client(`read:*/${queue}`)
    const { url } = (await reader.post(`/queues/${queue}/stream/ticket`).expect(201)).body
    file.entries.pop()
    file.write()
    clientOf('')
    await refused(`${gateway.url}${url}`, 401, 'unauthorized')
  })

  it('a client that opened a stream with a ticket reconnects to it with the id of its last event', async () => {
    const queue = await freshQueue({ type: 'stream' })
    for (const text of ['a', 'b', 'c']) await admin.post(`/queues/${queue}/messages`).send(text).expect(201)
    const { url } = (await admin.post(`/queues/${queue}/stream/ticket?offset=first`).expect(201)).body
    const first = await openStream(`${gateway.url}${url}`)
    await first.until(3)
    assert.match(first.text(), /^retry: 1000\nid: ticket\n\n/)
    assert.equal(first.events().at(-1)!.id, '2')
    first.leave()
    const again = await openStream(`${gateway.url}${url}`, { 'last-event-id': '1' })
    assert.deepEqual(
      (await again.until(1)).map(({ payload }) => payload),
      ['c'],
    )
    again.leave()
    const fromStart = await openStream(`${gateway.url}${url}`, { 'last-event-id': 'ticket' })
    await fromStart.until(3)
    fromStart.leave()
  })

  it('another instance takes the ticket, and a token or a RabbitMQ user may make one', async () => {
    const queue = await freshQueue()
    const key = await newKey('tickets')
    const jwt = { AUTH: 'jwt', JWT_JWKS_FILE: keySetFile(key).path, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }
    const { username, password } = new URL(process.env['AMQP_URL']!)
    const kinds: [Record<string, string>, string][] = [
      [jwt, `Bearer ${await token(key, `read:*/${queue}`)}`],
      [{ AUTH: 'broker' }, `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`],
    ]
    for (const [env, authorization] of kinds) {
      const [here, there]: [Gateway, Gateway] = [await startGateway(env), await startGateway(env)]
      const { url } = (await withAuthorization(here, authorization).post(`/queues/${queue}/stream/ticket`).expect(201)).body
      const stream = await openStream(`${there.url}${url}`)
      assert.equal(stream.response.statusCode, 200, env['AUTH'])
      const published = await admin.post(`/queues/${queue}/messages`).send(env['AUTH']).expect(201)
      const [message] = await stream.until(1)
      assert.equal(message!.properties.message_id, published.body.message_id)
      await withAuthorization(there, authorization).post(`/leases/${message!.lease!.id}/ack`).expect(204)
      stream.leave()
      await Promise.all([here.close(), there.close()])
    }
  })

  it('a gateway without authentication makes tickets too', async () => {
    const queue = await freshQueue()
    const open = await startGateway()
    const { url } = (await open.post(`/queues/${queue}/stream/ticket`).expect(201)).body
    const stream = await openStream(`${open.url}${url}`)
    assert.equal(stream.response.statusCode, 200)
    stream.leave()
    await eventually(() => assert.equal(open.app.services.streams.open, 0))
  })
})
