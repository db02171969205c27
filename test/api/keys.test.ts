// API keys: which requests they authenticate, and the headers that the gateway sets on messages of a key.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KeyFile, startWithKeys, withAuthorization } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { replaceFile } from '../support/files.js'
import { freshName } from '../support/gateway.js'
import { overSocket } from '../support/http.js'

/** The interval of stream heartbeats. */
const HEARTBEAT_INTERVAL_MS = 15_000

const { gateway, file, admin, client, clientOf } = await startWithKeys()
const adminKey = file.add(['configure:*/*', 'write:*/*', 'read:*/*'])
clientOf(adminKey)

async function freshQueue(): Promise<string> {
  const queue = freshName('queue')
  await admin.put(`/queues/${queue}`).expect(201)
  gateway.cleanups.push(async () => admin.delete(`/queues/${queue}`))
  return queue
}
const basic = (user: string, password: string) => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`

describe('authentication with API keys', () => {
  it('a key is accepted as a bearer token and as the password of any user name', async () => {
    const queue = await freshQueue()
    const ways = [
      `Bearer ${adminKey}`,
      `bearer ${adminKey}`,
      `BEARER  ${adminKey} `,
      basic('', adminKey),
      basic('anybody', adminKey),
    ]
    ways.push(basic('anybody', adminKey).replace('Basic', 'basic'))
    for (const way of ways) await withAuthorization(gateway, way).get(`/queues/${queue}`).expect(200)
  })

  it('a request without a key is refused with a Bearer challenge', async () => {
    const response = await gateway.get('/queues/q').expect(401)
    assert.equal(response.body.code, 'unauthorized')
    assert.equal(response.headers['www-authenticate'], 'Bearer realm="rabbitmq-http-gateway"')
  })

  it('an unknown key is refused, always with the same detail and without repeating the key', async () => {
    const changed = (at: number) => {
      const bytes = Buffer.from(adminKey)
      bytes[at]! ^= 1
      return bytes.toString('latin1')
    }
    const wrong = [
      changed(0),
      changed(15),
      changed(adminKey.length - 1),
      `${adminKey}x`,
      adminKey.slice(1),
      adminKey.toUpperCase(),
    ]
    const { sha256 } = file.entries[0]!
    const details = new Set<string>()
    for (const key of [...wrong, sha256, 'null', 'undefined', '__proto__', '*']) {
      for (const way of [`Bearer ${key}`, basic('u', key)]) {
        const response = await withAuthorization(gateway, way).get('/queues/q').expect(401)
        assert.equal(response.body.code, 'unauthorized')
        details.add(response.body.detail)
        assert.equal(response.headers['www-authenticate'], 'Bearer realm="rabbitmq-http-gateway", error="invalid_token"')
        assert.ok(!JSON.stringify(response.body).includes(key) || key.length < 10)
      }
    }
    assert.equal(details.size, 1, [...details].join())
  })

  it('a malformed Authorization header is refused', async () => {
    const ways = [
      '',
      'Bearer',
      'Bearer ',
      adminKey,
      `Token ${adminKey}`,
      `Basic ${adminKey}`,
      'Basic',
      'Basic ====',
      basic('u', ''),
    ]
    ways.push(`Bearer ${adminKey}, Bearer ${adminKey}`, `Bearer ${'a'.repeat(100_000)}`, `Digest username="${adminKey}"`)
    for (const way of ways) {
      const response = await withAuthorization(gateway, way).get('/queues/q')
      assert.equal(response.status, 401, way.slice(0, 100))
      assert.equal(response.body.code, 'unauthorized')
    }
  })

  it('two Authorization headers are refused, even with valid keys', async () => {
    const headers = `authorization: Bearer ${adminKey}\r\nAUTHORIZATION: Bearer ${adminKey}\r\n`
    const answer = await overSocket(
      gateway.url,
      `GET /queues/q HTTP/1.1\r\nhost: localhost\r\n${headers}connection: close\r\n\r\n`,
    )
    assert.match(answer, /^HTTP\/1\.1 401 /)
    const one = `authorization: Bearer ${adminKey}\r\n`
    assert.match(
      await overSocket(gateway.url, `GET /queues/nowhere HTTP/1.1\r\nhost: localhost\r\n${one}connection: close\r\n\r\n`),
      /^HTTP\/1\.1 404 /,
    )
  })

  it('a key in the query does not authenticate', async () => {
    for (const path of [`/queues/q?access_token=${adminKey}`, `/queues/q?key=${adminKey}`]) await gateway.get(path).expect(401)
  })

  it('an unauthenticated request is refused before the gateway reveals which routes and methods exist', async () => {
    for (const [method, path] of [
      ['get', '/nowhere'],
      ['patch', '/queues/q'],
      ['post', '/queues/q'],
      ['options', '/queues/q'],
    ] as const) {
      assert.equal((await gateway.call(method, path).expect(401)).body.code, 'unauthorized')
    }
    await admin.get('/nowhere').expect(404)
    await admin.call('patch', '/queues/q').expect(405)
  })

  it('health, metrics and the docs need no key', async () => {
    for (const path of ['/health/live', '/health/ready', '/metrics', '/openapi.json', '/problems'])
      await gateway.get(path).expect(200)
    for (const path of ['/', '/docs', '/docs/']) assert.ok((await gateway.get(path)).status < 400, path)
  })

  it('a key is refused once it has expired', async () => {
    const queue = await freshQueue()
    const rights = [`read:%2F/${queue}`]
    const before = clientOf(file.add(rights, { expires_at: new Date(Date.now() - 1000).toISOString() }))
    assert.match((await before.get(`/queues/${queue}`).expect(401)).body.detail, /expired/)
    const soon = clientOf(file.add(rights, { expires_at: new Date(Date.now() + 1000).toISOString() }))
    await soon.get(`/queues/${queue}`).expect(200)
    await eventually(async () => soon.get(`/queues/${queue}`).expect(401))
  })
})

describe('the key file', () => {
  it('the gateway reads a changed key file', async () => {
    const own = await startWithKeys()
    const queue = await freshQueue()
    const key = own.file.add([`read:%2F/${queue}`])
    const reader = withAuthorization(own.gateway, `Bearer ${key}`)
    await eventually(async () => reader.get(`/queues/${queue}`).expect(200))
    own.file.entries.at(-1)!.rights = ['read:%2F/another']
    own.file.write()
    await eventually(async () => reader.get(`/queues/${queue}`).expect(403))
    own.file.entries.pop()
    own.file.write()
    await eventually(async () => reader.get(`/queues/${queue}`).expect(401))
  })

  it('the last valid keys stay in force while the key file has a mistake', async () => {
    const own = await startWithKeys({}, new KeyFile())
    const key = own.file.add(['read:%2F/q'])
    own.clientOf(key)
    for (const text of ['', '{"keys": [{"name": "a"}]}', '{']) {
      replaceFile(own.file.path, text)
      own.gateway.app.services.authentication.reload()
      await withAuthorization(own.gateway, `Bearer ${key}`).get('/queues/q').expect(404)
    }
  })
})

describe('long requests of a removed key', () => {
  it('a waiting receive of a removed key is refused and takes no message', async () => {
    const queue = await freshQueue()
    const own = await startWithKeys()
    const reader = own.clientOf(own.file.add([`read:%2F/${queue}`]))
    for (const query of ['wait=30s&ack=auto', 'wait=30s&format=raw']) {
      const waiting = reader.get(`/queues/${queue}/messages?${query}`).then((response) => response)
      await eventually(() => assert.equal(own.gateway.app.services.receiver.waiting, 1))
      const taken = own.file.entries.pop()!
      own.file.write()
      own.gateway.app.services.authentication.reload()
      await admin.post(`/queues/${queue}/messages`).send('x').expect(201)
      const { status, headers, body } = await waiting
      assert.deepEqual([status, body.code], [401, 'unauthorized'])
      assert.match(headers['www-authenticate']!, /^Bearer /)
      const { messages } = (await admin.get(`/queues/${queue}/messages?wait=5s&ack=auto`).expect(200)).body
      assert.equal(messages[0].payload, 'x')
      own.file.entries.push(taken)
      own.file.write()
      own.gateway.app.services.authentication.reload()
    }
  })

  it('a stream of a removed key ends with a problem, and an NDJSON upload rejects its next line', async (t) => {
    const queue = await freshQueue()
    const key = file.add([`read:%2F/${queue}`, `write:%2F/${queue}`])
    clientOf(key)
    const headers = { authorization: `Bearer ${key}` }
    // Streams check their credentials at each heartbeat, whose timer the test controls.
    t.mock.timers.enable({ apis: ['setInterval'] })
    const stream = await fetch(`${gateway.url}/queues/${queue}/stream`, {
      headers: { ...headers, accept: 'application/x-ndjson' },
    })
    assert.equal(stream.status, 200)

    const lines = new TransformStream<Uint8Array, Uint8Array>()
    const writer = lines.writable.getWriter()
    const line = () => writer.write(new TextEncoder().encode('{"payload":1}\n'))
    const batch = fetch(`${gateway.url}/queues/${queue}/messages/batch`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/x-ndjson' },
      body: lines.readable,
      duplex: 'half',
    } as RequestInit)
    void line()
    await eventually(async () =>
      assert.equal((await admin.get(`/metrics`)).text.match(/gateway_batch_messages_total{status="confirmed"} (\d+)/)?.[1], '1'),
    )
    file.entries.pop()
    file.write()
    gateway.app.services.authentication.reload()
    void line()
    void writer.close()
    const results = (await (await batch).text())
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text))
    assert.deepEqual(
      results.map(({ status, problem }) => status && [status, problem?.code]),
      [['confirmed', undefined], ['rejected', 'unauthorized'], undefined],
    )
    t.mock.timers.tick(HEARTBEAT_INTERVAL_MS)
    assert.equal(JSON.parse((await stream.text()).trim().split('\n').at(-1)!).code, 'unauthorized')
  })
})

describe('headers of a key', () => {
  const headersOf = async (queue: string) =>
    (await admin.get(`/queues/${queue}/messages?wait=5s&ack=auto`).expect(200)).body.messages[0].properties.headers

  it('every message of a key carries the headers of the key, whatever the client sends', async () => {
    const queue = await freshQueue()
    const author = clientOf(file.add([`write:%2F/${queue}`], { headers: { 'x-tenant': 'acme', 'x-team': 'a' } }))
    const path = `/queues/${queue}/messages`
    await author.post(path).send('x').expect(201)
    assert.deepEqual(await headersOf(queue), { 'x-tenant': 'acme', 'x-team': 'a' })
    await author.post(path).set('amqp-header-x-tenant', 'evil').set('amqp-header-mine', 'm').send('x').expect(201)
    assert.deepEqual(await headersOf(queue), { mine: 'm', 'x-tenant': 'acme', 'x-team': 'a' })
    await author.post(`${path}?confirm=false`).set('amqp-headers', '{"X-Tenant":"evil","x-team":["b"]}').send('x').expect(202)
    assert.deepEqual(await headersOf(queue), { 'x-tenant': 'acme', 'x-team': 'a' })
    const messages = [{ payload: 1, properties: { headers: { 'X-TENANT': 'evil' } } }]
    await author.post(`${path}/batch`).send({ messages }).expect(200)
    assert.deepEqual(await headersOf(queue), { 'x-tenant': 'acme', 'x-team': 'a' })
    await author.post(`/queues/${queue}/rpc?timeout=50ms`).set('amqp-header-x-tenant', 'evil').send('x').expect(504)
    await author.post(`/exchanges/amq.default/messages?routing_key=${queue}`).set('amqp-header-x-tenant', 'evil').send('x')
    assert.equal((await headersOf(queue))['x-tenant'], 'acme')
    const others = Object.fromEntries(['x.tenant', 'x!tenant', 'x+tenant', 'x tenant', 'x*team'].map((name) => [name, 'evil']))
    const spelt = JSON.stringify({ x_tenant: 'evil', X_Tenant: 'evil', 'X-tenant': { y: 'evil' }, ...others })
    await author.post(path).set('amqp-headers', spelt).send('x').expect(201)
    assert.deepEqual(await headersOf(queue), { 'x-tenant': 'acme', 'x-team': 'a' })
    await author.post(`${path}?delay=100ms`).set('amqp-header-x-tenant', 'evil').send('x').expect(201)
    const { messages: delayed } = (await admin.get(`/queues/${queue}/messages?wait=10s`).expect(200)).body
    assert.deepEqual(delayed[0].properties.headers, { 'x-tenant': 'acme', 'x-team': 'a' })
    await admin.post(`/leases/${delayed[0].lease.id}/nack`).send({ delay: '100ms' }).expect(204)
    assert.equal((await headersOf(queue))['x-tenant'], 'acme')
    const event = { specversion: '1.0', id: '1', source: '/s', type: 't', 'x-tenant': 'evil' }
    await author
      .post(`${path}/batch`)
      .type('application/cloudevents-batch+json')
      .send(JSON.stringify([event]))
      .expect(200)
    assert.equal((await headersOf(queue))['x-tenant'], 'acme')
  })

  it('what a key has started goes on when the key is removed: its delayed messages and its redrive', async () => {
    const [from, to] = [await freshQueue(), await freshQueue()]
    const name = 'leaver'
    const leaver = clientOf(file.add([`write:%2F/${from}`, `write:%2F/${to}`, `read:%2F/${from}`], { name }))
    for (const body of ['1', '2']) await leaver.post(`/queues/${from}/messages`).send(body).expect(201)
    await leaver.post(`/queues/${to}/messages?delay=1s`).send('delayed').expect(201)
    const { body: redrive } = await leaver.post(`/queues/${from}/redrive`).send({ to, rate: 1 }).expect(202)
    file.entries.splice(
      file.entries.findIndex((entry) => entry.name === name),
      1,
    )
    file.write()
    gateway.app.services.authentication.reload()
    await leaver.get(`/redrives/${redrive.id}`).expect(401)
    await eventually(async () => assert.equal((await admin.get(`/queues/${to}`)).body.message_count, 3), 20_000)
    // Everyone who may read the queue can stop it.
    await admin.delete(`/redrives/${redrive.id}`)
  })

  it('a CloudEvents attribute set by a key overrides every spelling that the client sends', async () => {
    const queue = await freshQueue()
    const author = clientOf(file.add([`write:%2F/${queue}`], { headers: { 'cloudEvents:source': '/acme' } }))
    const spelt = JSON.stringify({
      'ce-source': '/evil',
      cloudEvents_source: '/evil',
      'cloudEvents:Source': '/evil',
      'cloudevents.source': '/evil',
    })
    await author.post(`/queues/${queue}/messages`).set('ce-source', '/evil').set('amqp-headers', spelt).send('x').expect(201)
    assert.deepEqual(await headersOf(queue), { 'cloudEvents:source': '/acme' })
  })

  it('user_id may be set only by a key with user_id', async () => {
    const queue = await freshQueue()
    const path = `/queues/${queue}/messages`
    const author = client(`write:%2F/${queue}`)
    const { body } = await author.post(path).set('amqp-user-id', 'guest').send('x').expect(400)
    assert.equal(body.errors[0].pointer, '/header/amqp-user-id')
    const messages = [{ payload: 1, properties: { user_id: 'guest' } }]
    const batch = await author.post(`${path}/batch`).send({ messages }).expect(200)
    assert.equal(batch.body.results[0].status, 'invalid')
    const may = clientOf(file.add([`write:%2F/${queue}`], { user_id: true }))
    await may.post(path).set('amqp-user-id', 'guest').send('x').expect(201)
    await may.post(path).set('amqp-user-id', 'another').send('x').expect(400)
  })
})
