// API keys: who is let in by them, and who is not.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KeyFile, replaceFile, startWithKeys, withAuthorization } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshName } from '../support/gateway.js'
import { overSocket } from '../support/http.js'

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

describe('an API key', () => {
  it('is a bearer token, or the password of anybody', async () => {
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

  it('is missing, and the answer says how to send one', async () => {
    const response = await gateway.get('/queues/q').expect(401)
    assert.equal(response.body.code, 'unauthorized')
    assert.equal(response.headers['www-authenticate'], 'Bearer realm="rabbitmq-http-gateway"')
  })

  it('is refused where it is anything else, always in the same words', async () => {
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
    for (const key of [...wrong, sha256, 'null', 'undefined', '__proto__', '*']) {
      for (const way of [`Bearer ${key}`, basic('u', key)]) {
        const response = await withAuthorization(gateway, way).get('/queues/q').expect(401)
        assert.equal(response.body.detail, 'The key is unknown.')
        assert.equal(response.headers['www-authenticate'], 'Bearer realm="rabbitmq-http-gateway", error="invalid_token"')
        assert.ok(!JSON.stringify(response.body).includes(key) || key.length < 10)
      }
    }
  })

  it('is refused in a header that is none', async () => {
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

  it('is refused where there are two of them', async () => {
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

  it('is no good in the path or the query', async () => {
    for (const path of [`/queues/q?access_token=${adminKey}`, `/queues/q?key=${adminKey}`]) await gateway.get(path).expect(401)
  })

  it('is asked for before anything is said of what there is', async () => {
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

  it('is not asked for by health, metrics and the docs', async () => {
    for (const path of ['/health/live', '/health/ready', '/metrics', '/openapi.json', '/problems'])
      await gateway.get(path).expect(200)
    for (const path of ['/', '/docs', '/docs/']) assert.ok((await gateway.get(path)).status < 400, path)
  })

  it('is over when its time is', async () => {
    const queue = await freshQueue()
    const rights = [`read:%2F/${queue}`]
    const before = clientOf(file.add(rights, { expires_at: new Date(Date.now() - 1000).toISOString() }))
    assert.equal((await before.get(`/queues/${queue}`).expect(401)).body.detail, 'The key has expired.')
    const soon = clientOf(file.add(rights, { expires_at: new Date(Date.now() + 700).toISOString() }))
    await soon.get(`/queues/${queue}`).expect(200)
    await eventually(async () => soon.get(`/queues/${queue}`).expect(401))
  })
})

describe('the key file', () => {
  it('is read again when it changes', async () => {
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

  it('stays as it was while there is a mistake in it', async () => {
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

describe('what lasts', () => {
  it('ends when its key is taken away: a receive that waits takes nothing', async () => {
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

  it('ends when its key is taken away: a stream with a word, a batch of lines with the next one', async () => {
    const queue = await freshQueue()
    const key = file.add([`read:%2F/${queue}`, `write:%2F/${queue}`])
    clientOf(key)
    const headers = { authorization: `Bearer ${key}` }
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
    assert.equal(JSON.parse((await stream.text()).trim().split('\n').at(-1)!).code, 'unauthorized')
  })
})

describe('the gateway’s own headers', () => {
  const headersOf = async (queue: string) =>
    (await admin.get(`/queues/${queue}/messages?wait=5s&ack=auto`).expect(200)).body.messages[0].properties.headers

  it('stand on every message of a key, whatever its client sends', async () => {
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
    const spelt = JSON.stringify({ x_tenant: 'evil', X_Tenant: 'evil', 'X-tenant': { y: 'evil' } })
    await author.post(path).set('amqp-headers', spelt).send('x').expect(201)
    assert.deepEqual(await headersOf(queue), { 'x-tenant': 'acme', 'x-team': 'a' })
    await author.post(`${path}?delay=100ms`).set('amqp-header-x-tenant', 'evil').send('x').expect(201)
    const { messages: late } = (await admin.get(`/queues/${queue}/messages?wait=10s`).expect(200)).body
    assert.deepEqual(late[0].properties.headers, { 'x-tenant': 'acme', 'x-team': 'a' })
    await admin.post(`/leases/${late[0].lease.id}/nack`).send({ delay: '100ms' }).expect(204)
    assert.equal((await headersOf(queue))['x-tenant'], 'acme')
    const event = { specversion: '1.0', id: '1', source: '/s', type: 't', 'x-tenant': 'evil' }
    await author
      .post(`${path}/batch`)
      .type('application/cloudevents-batch+json')
      .send(JSON.stringify([event]))
      .expect(200)
    assert.equal((await headersOf(queue))['x-tenant'], 'acme')
  })

  it('may be an event’s, in whatever form its client says the same', async () => {
    const queue = await freshQueue()
    const author = clientOf(file.add([`write:%2F/${queue}`], { headers: { 'cloudEvents:source': '/acme' } }))
    const spelt = JSON.stringify({ 'ce-source': '/evil', cloudEvents_source: '/evil', 'cloudEvents:Source': '/evil' })
    await author.post(`/queues/${queue}/messages`).set('ce-source', '/evil').set('amqp-headers', spelt).send('x').expect(201)
    assert.deepEqual(await headersOf(queue), { 'cloudEvents:source': '/acme' })
  })

  it('leave user_id to those who may set it', async () => {
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
