// Instances that settle each other's leases over HTTP, at an endpoint for instances only, whatever the gateway asks of clients.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { after, describe, it } from 'node:test'
import supertest from 'supertest'
import { freePort } from '../../scripts/broker.mjs'
import { INSTANCE_PATH } from '../../src/instances/client.js'
import { SIGNATURE, Signatures } from '../../src/instances/signature.js'
import { KeyFile } from '../support/access.js'
import { createAuthority } from '../support/certificates.js'
import { openapi } from '../support/contract.js'
import { eventually } from '../support/eventually.js'
import { freshQueue, type Gateway, knows, startGateway } from '../support/gateway.js'

const ADVERTISE_SECRET = 'shared by all instances'
const LEASE_SECRET = 'shared by all who read leases'
const authority = createAuthority()
const { cert: TLS_CERT_FILE, key: TLS_KEY_FILE } = authority.issue('gateway')
const keys = new KeyFile()
const key = keys.add(['configure:*/*', 'write:*/*', 'read:*/*'])
const witness = await startGateway({ LEASE_SECRET })

/** A gateway that advertises its own URL. */
async function advertising(env: Record<string, string> = {}): Promise<Gateway> {
  const PORT = String(await freePort())
  const scheme = env['TLS_CERT_FILE'] ? 'https' : 'http'
  return startGateway({ ADVERTISE_SECRET, LEASE_SECRET, PORT, ADVERTISE_URL: `${scheme}://127.0.0.1:${PORT}`, ...env })
}

/** A client that sends a key, and over TLS a certificate. */
function clientOf({ url, app }: Gateway) {
  const { TLS_CERT_FILE: secure } = app.services.config
  const call = (method: 'get' | 'post', path: string) => {
    const test = supertest(secure ? url.replace('http:', 'https:') : url)
      [method](path)
      .set('authorization', `Bearer ${key}`)
    return secure ? test.ca(authority.pem).cert(read(TLS_CERT_FILE)).key(read(TLS_KEY_FILE)) : test
  }
  return { get: (path: string) => call('get', path), post: (path: string) => call('post', path) }
}
const read = (path: string) => readFileSync(path)

async function leasesOf(owner: Gateway, queue: string, count: number): Promise<string[]> {
  const messages = Array.from({ length: count }, (_, n) => ({ payload: n }))
  await witness.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  const { body } = await clientOf(owner).get(`/queues/${queue}/messages?max=${count}&wait=5s`).expect(200)
  assert.equal(body.messages.length, count)
  return body.messages.map(({ lease }: { lease: { id: string } }) => lease.id)
}

async function counted(gateway: Gateway): Promise<Record<string, number>> {
  const text = await gateway.app.services.metrics.text()
  const lines = text.matchAll(/^gateway_instance_requests_total\{outcome="(\w+)"\} (\d+)/gm)
  return Object.fromEntries([...lines].map(([, outcome, value]) => [outcome!, Number(value)]))
}

const ACCESS_CHECKS: [what: string, owner: Record<string, string>, other?: Record<string, string>][] = [
  ['without authentication', {}],
  ['that requires a key', { AUTH: 'keys', API_KEYS_FILE: keys.path }],
  // The one allowed request is the receive.
  ['with a rate limit', { RATE_LIMIT: '1/h' }],
  ['with ALLOWED_HOSTS', { ALLOWED_HOSTS: 'gateway.example' }],
  ['with TLS', { TLS_CERT_FILE, TLS_KEY_FILE }, { ADVERTISE_CA_FILE: authority.cert }],
  [
    'that requires client certificates',
    { TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE: authority.cert },
    { ADVERTISE_CA_FILE: authority.cert, TLS_CERT_FILE, TLS_KEY_FILE },
  ],
]

describe('leases of other instances over HTTP', () => {
  for (const [what, env, others = {}] of ACCESS_CHECKS) {
    it(`an instance settles the leases of an instance ${what}`, async () => {
      const [owner, other] = [await advertising(env), await advertising(others)]
      await knows(other, owner)
      const client = clientOf(other)
      const queue = await freshQueue(witness)
      const [acked, nacked, one, two] = await leasesOf(owner, queue, 4)
      await client.post(`/leases/${acked}/ack`).expect(204)
      await client.post(`/leases/${acked}/ack`).expect(204)
      assert.equal((await client.post(`/leases/${acked}/nack`).expect(409)).body.code, 'already_settled')
      await client.post(`/leases/${nacked}/nack`).send({ requeue: false }).expect(204)
      const { body: extended } = await client.post(`/leases/${one}/extend`).send({ lease: '5m' }).expect(200)
      const { body: seen } = await client.get(`/leases/${one}`).expect(200)
      assert.deepEqual([seen.expires_at, seen.queue], [extended.expires_at, queue])
      const { body } = await client.post('/leases/settle').send({ ack: [one, acked], nack: [{ id: two }] })
      assert.deepEqual(
        body.results.map(({ status }: { status: string }) => status),
        ['acked', 'acked', 'nacked'],
      )
      assert.equal((await witness.get(`/queues/${queue}`)).body.message_count, 1)
      // A bulk settle takes one request, and no request goes through RabbitMQ.
      assert.deepEqual(await counted(other), { answered: 7 })
    })
  }

  it('an instance can advertise its port for operations', async () => {
    const port = await freePort()
    const owner = await startGateway({
      OPERATIONS_PORT: String(port),
      ADVERTISE_URL: `http://127.0.0.1:${port}`,
      ADVERTISE_SECRET,
      LEASE_SECRET,
    })
    await owner.app.operations!.listen({ host: '127.0.0.1', port })
    const other = await advertising()
    await knows(other, owner)
    const [lease] = await leasesOf(owner, await freshQueue(witness), 1)
    await other.post(`/leases/${lease}/ack`).expect(204)
    assert.deepEqual(await counted(other), { answered: 1 })
  })

  it('instances of which one advertises no URL reach each other through RabbitMQ', async () => {
    const [owner, plain] = [await advertising(), await startGateway({ LEASE_SECRET })]
    const queue = await freshQueue(witness)
    for (const [holder, settler] of [
      [owner, plain],
      [plain, owner],
    ] as const) {
      const [lease] = await leasesOf(holder, queue, 1)
      await settler.post(`/leases/${lease}/ack`).expect(204)
    }
    assert.deepEqual([await counted(owner), await counted(plain)], [{}, {}])
  })

  it('an instance falls back to RabbitMQ if the secrets differ or it does not trust the certificate', async () => {
    for (const [env, others, outcomes] of [
      // The address is not signed with its secret either, so it is not called.
      [{}, { ADVERTISE_SECRET: 'the secret of others' }, {}],
      [{ TLS_CERT_FILE, TLS_KEY_FILE }, {}, { unreachable: 1 }],
    ] as const) {
      const [owner, other] = [await advertising(env), await advertising(others)]
      await knows(other, owner)
      const [lease] = await leasesOf(owner, await freshQueue(witness), 1)
      await other.post(`/leases/${lease}/ack`).expect(204)
      assert.deepEqual(await counted(other), outcomes)
    }
  })

  it('an address that somebody else writes into the log of definitions is not called', async () => {
    const [owner, other] = [await advertising(), await advertising()]
    await knows(other, owner)
    const [lease] = await leasesOf(owner, await freshQueue(witness), 1)
    let calls = 0
    const stranger = createServer((socket) => {
      calls++
      socket.destroy()
    })
    await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve))
    after(() => stranger.close())
    const address = stranger.address()
    const url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`
    const { instance } = owner.app.services.vhosts
    const elsewhere = new Signatures(ADVERTISE_SECRET).signAddress('AAAAAAAAAAA', url)
    for (const value of [{ url }, { url, signature: elsewhere }, { url, signature: 1 }, url, null]) {
      const record = { id: randomUUID(), type: 'say', instance, topic: 'address', value }
      const published = {
        exchange: '',
        routingKey: 'gateway.definitions',
        properties: { messageId: record.id },
        body: Buffer.from(JSON.stringify(record)),
      }
      await witness.app.services.vhosts.default.publisher.publish(published)
      await eventually(() => assert.deepEqual(other.app.services.definitions.lastBroadcast('address', instance)?.value, value))
      await other.get(`/leases/${lease}`).expect(200)
    }
    assert.equal(calls, 0)
    assert.deepEqual(await counted(other), {})
  })
})

describe('the endpoint for instances', () => {
  const EPOCH = 'AAAAAAAAAAA'
  const commands = Buffer.from('{"commands":[]}')
  const signatures = new Signatures(ADVERTISE_SECRET)
  const send = (gateway: Gateway, signature: string | undefined, body: Buffer) => {
    const test = supertest(gateway.url).post(INSTANCE_PATH).set('content-type', 'application/json')
    if (signature !== undefined) test.set(SIGNATURE, signature)
    return test.send(body.toString())
  }

  it('the endpoint for instances exists only with ADVERTISE_URL and is in no OpenAPI document', async () => {
    assert.equal((await send(witness, signatures.sign(EPOCH, commands), commands).expect(404)).body.code, 'not_found')
    assert.ok(!(INSTANCE_PATH in openapi.paths))
    const { body } = await (await advertising()).get('/openapi.json').expect(200)
    assert.ok(!(INSTANCE_PATH in body.paths))
  })

  it('a request with a missing, wrong, old or mismatched signature is refused with 401', async () => {
    const gateway = await advertising()
    const other = Buffer.from('{"commands":[ ]}')
    for (const [signature, body] of [
      [undefined, commands],
      ['nonsense', commands],
      [new Signatures('guess').sign(EPOCH, commands), commands],
      [signatures.sign(EPOCH, commands, Date.now() - 61_000), commands],
      [signatures.sign(EPOCH, commands), other],
      [signatures.sign(EPOCH, commands), Buffer.of()],
    ] as const) {
      const { body: problem, headers } = await send(gateway, signature, body).expect(401)
      assert.equal(problem.code, 'unauthorized')
      assert.ok(headers['www-authenticate'])
      assert.equal(headers[SIGNATURE], undefined)
    }
  })

  it('an unsigned request is refused before its body is read, and an oversized signed one with 413', async () => {
    const gateway = await advertising()
    const large = Buffer.alloc(3 * 1024 * 1024, ' ')
    await send(gateway, undefined, large).expect(401)
    assert.equal((await send(gateway, signatures.sign(EPOCH, large), large).expect(413)).body.code, 'message_too_large')
  })

  it('a request for the epoch of another instance gets an empty signed response', async () => {
    const gateway = await advertising()
    const signature = signatures.sign(EPOCH, commands)
    const { text, headers } = await send(gateway, signature, commands).expect(200)
    assert.equal(text, '')
    assert.ok(signatures.isAnswer(signature, Buffer.of(), headers[SIGNATURE]))
  })
})
