// Instances that settle each other's leases over HTTP: past everything that guards the door for clients, and nobody but them.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import supertest from 'supertest'
import { freePort } from '../../scripts/broker.mjs'
import { INSTANCE_PATH } from '../../src/instances/client.js'
import { SIGNATURE, Signatures } from '../../src/instances/signature.js'
import { KeyFile } from '../support/access.js'
import { createAuthority } from '../support/certificates.js'
import { openapi } from '../support/contract.js'
import { freshQueue, type Gateway, startGateway } from '../support/gateway.js'

const ADVERTISE_SECRET = 'what instances share'
const authority = createAuthority()
const { cert: TLS_CERT_FILE, key: TLS_KEY_FILE } = authority.issue('gateway')
const keys = new KeyFile()
const key = keys.add(['configure:*/*', 'write:*/*', 'read:*/*'])
const witness = await startGateway()

/** One that advertises where it listens. */
async function advertising(env: Record<string, string> = {}): Promise<Gateway> {
  const PORT = String(await freePort())
  const scheme = env['TLS_CERT_FILE'] ? 'https' : 'http'
  return startGateway({ ADVERTISE_SECRET, PORT, ADVERTISE_URL: `${scheme}://127.0.0.1:${PORT}`, ...env })
}

/** A client with a key and a certificate for whoever asks for one. */
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

const DOORS: [what: string, owner: Record<string, string>, other?: Record<string, string>][] = [
  ['that stands open', {}],
  ['that wants a key', { AUTH: 'keys', API_KEYS_FILE: keys.path }],
  // The one request is the receive.
  ['that counts requests', { RATE_LIMIT: '1/h' }],
  ['that knows its name', { ALLOWED_HOSTS: 'gateway.example' }],
  ['that speaks TLS', { TLS_CERT_FILE, TLS_KEY_FILE }, { ADVERTISE_CA_FILE: authority.cert }],
  [
    'that wants a certificate',
    { TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE: authority.cert },
    { ADVERTISE_CA_FILE: authority.cert, TLS_CERT_FILE, TLS_KEY_FILE },
  ],
]

describe('an instance', () => {
  for (const [what, env, others = {}] of DOORS) {
    it(`settles the leases of another one behind a door ${what}`, async () => {
      const [owner, other] = [await advertising(env), await advertising(others)]
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
      // One request for all leases of a list, and not one through RabbitMQ.
      assert.deepEqual(await counted(other), { answered: 7 })
    })
  }

  it('is reached on the port for operations too', async () => {
    const port = await freePort()
    const owner = await startGateway({
      OPERATIONS_PORT: String(port),
      ADVERTISE_URL: `http://127.0.0.1:${port}`,
      ADVERTISE_SECRET,
    })
    await owner.app.operations!.listen({ host: '127.0.0.1', port })
    const other = await advertising()
    const [lease] = await leasesOf(owner, await freshQueue(witness), 1)
    await other.post(`/leases/${lease}/ack`).expect(204)
    assert.deepEqual(await counted(other), { answered: 1 })
  })

  it('is asked through RabbitMQ by one that advertises nothing, and asks it so', async () => {
    const [owner, plain] = [await advertising(), await startGateway()]
    const queue = await freshQueue(witness)
    for (const [holder, asked] of [
      [owner, plain],
      [plain, owner],
    ] as const) {
      const [lease] = await leasesOf(holder, queue, 1)
      await asked.post(`/leases/${lease}/ack`).expect(204)
    }
    assert.deepEqual([await counted(owner), await counted(plain)], [{}, {}])
  })

  it('is asked through RabbitMQ where the two have another secret, or trust another authority', async () => {
    for (const [env, others, outcome] of [
      [{}, { ADVERTISE_SECRET: 'another' }, 'unanswered'],
      [{ TLS_CERT_FILE, TLS_KEY_FILE }, {}, 'unreachable'],
    ] as const) {
      const [owner, other] = [await advertising(env), await advertising(others)]
      const [lease] = await leasesOf(owner, await freshQueue(witness), 1)
      await other.post(`/leases/${lease}/ack`).expect(204)
      assert.deepEqual(await counted(other), { [outcome]: 1 })
    }
  })
})

describe('the door for instances', () => {
  const EPOCH = 'AAAAAAAAAAA'
  const commands = Buffer.from('{"commands":[]}')
  const ours = new Signatures(ADVERTISE_SECRET)
  const knock = (gateway: Gateway, signature: string | undefined, body: Buffer) => {
    const test = supertest(gateway.url).post(INSTANCE_PATH).set('content-type', 'application/json')
    if (signature !== undefined) test.set(SIGNATURE, signature)
    return test.send(body.toString())
  }

  it('is there only where an address is advertised, and in no document', async () => {
    assert.equal((await knock(witness, ours.sign(EPOCH, commands), commands).expect(404)).body.code, 'not_found')
    assert.ok(!(INSTANCE_PATH in openapi.paths))
    const { body } = await (await advertising()).get('/openapi.json').expect(200)
    assert.ok(!(INSTANCE_PATH in body.paths))
  })

  it('is shut to everybody who does not have the secret, and to what is old or was changed', async () => {
    const gateway = await advertising()
    const other = Buffer.from('{"commands":[ ]}')
    for (const [signature, body] of [
      [undefined, commands],
      ['nonsense', commands],
      [new Signatures('guess').sign(EPOCH, commands), commands],
      [ours.sign(EPOCH, commands, Date.now() - 61_000), commands],
      [ours.sign(EPOCH, commands), other],
      [ours.sign(EPOCH, commands), Buffer.of()],
    ] as const) {
      const { body: problem, headers } = await knock(gateway, signature, body).expect(401)
      assert.equal(problem.code, 'unauthorized')
      assert.ok(headers['www-authenticate'])
      assert.equal(headers[SIGNATURE], undefined)
    }
  })

  it('refuses strangers before it reads what they send, and instances that send too much', async () => {
    const gateway = await advertising()
    const large = Buffer.alloc(3 * 1024 * 1024, ' ')
    await knock(gateway, undefined, large).expect(401)
    assert.equal((await knock(gateway, ours.sign(EPOCH, large), large).expect(413)).body.code, 'message_too_large')
  })

  it('says nothing of epochs that are not its own', async () => {
    const gateway = await advertising()
    const signature = ours.sign(EPOCH, commands)
    const { text, headers } = await knock(gateway, signature, commands).expect(200)
    assert.equal(text, '')
    assert.ok(ours.isAnswer(signature, Buffer.of(), headers[SIGNATURE]))
  })
})
