// Leases behind a load balancer while RabbitMQ blocks publishing, and while instances are unreachable over HTTP: a settle
// succeeds if it can reach its instance either way, and is otherwise reported as unknown or unreachable.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { freePort, startBroker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { freshName, startGateway } from '../support/gateway.js'
import { type GatewayProcess, readyGateway } from '../support/process.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-instances-'))
const broker = await startBroker({ dir })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})
const LEASE_SECRET = 'what all of them share'
const SHARED = { AMQP_URL: broker.url, LEASE_SECRET, ADVERTISE_SECRET: 'what instances share', BROKER_TIMEOUT: '2s' }
/** The maximum time of a settle whose instance does not answer: 2.5 s over HTTP and through RabbitMQ each, and a margin. */
const MAX_UNREACHABLE_MS = 2 * 2500 + 5000
const witness = await startGateway({ AMQP_URL: broker.url, LEASE_SECRET })

/** Starts an instance. @param url the ADVERTISE_URL; its own by default */
async function start(url?: string): Promise<GatewayProcess> {
  const PORT = String(await freePort())
  const ADVERTISE_URL = url ?? `http://127.0.0.1:${PORT}`
  // Instances read each other's addresses from the same log as the witness.
  const told = () =>
    witness.app.services.definitions
      .lastBroadcasts('address', Number.POSITIVE_INFINITY)
      .filter(({ value }) => (value as { url: string }).url === ADVERTISE_URL).length
  const before = told()
  const gateway = await readyGateway({ ...SHARED, PORT, ADVERTISE_URL })
  await eventually(() => assert.ok(told() > before))
  return gateway
}

interface Answer {
  status: number
  code: string | undefined
  /** Milliseconds. */
  took: number
  body: Record<string, unknown> | undefined
}

async function ask({ url }: { url: string }, method: string, path: string, body?: object): Promise<Answer> {
  const from = Date.now()
  const response = await fetch(url + path, {
    method,
    ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  })
  const text = await response.text()
  const parsed = text === '' ? undefined : JSON.parse(text)
  return { status: response.status, code: parsed?.code, took: Date.now() - from, body: parsed }
}

/** Receives `count` messages of a new queue at an instance. @returns the ids of the leases */
async function leasesOf(owner: { url: string }, count: number, lease = '10m'): Promise<string[]> {
  const queue = freshName()
  await witness.put(`/queues/${queue}`).expect(201)
  const messages = Array.from({ length: count }, (_, n) => ({ payload: n }))
  await witness.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
  const { body } = await ask(owner, 'GET', `/queues/${queue}/messages?max=${count}&wait=5s&lease=${lease}`)
  return (body as { messages: { lease: { id: string } }[] }).messages.map(({ lease }) => lease.id)
}

// Started here, as processes that a test or a hook starts end with it.
const plainEnv = { AMQP_URL: broker.url, LEASE_SECRET }
const [one, two, plain, plainToo] = await Promise.all([start(), start(), readyGateway(plainEnv), readyGateway(plainEnv)])

describe('leases of other instances during a memory alarm', { timeout: 120_000 }, () => {
  let ofOwner: string[] = []
  let ofPlain: string[] = []
  before(async () => {
    ofOwner = await leasesOf(one, 5)
    ofPlain = await leasesOf(plain, 4)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    for (const gateway of [two, plainToo])
      await eventually(async () => assert.equal((await ask(gateway, 'GET', '/health/ready')).status, 503))
  })
  after(async () => {
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await eventually(() => assert.equal(witness.app.services.notReady(), undefined), 30_000)
  })

  it('during a memory alarm a lease of an instance that is reached over HTTP can be settled, extended and read', async () => {
    const [acked, nacked, kept, first, second] = ofOwner
    assert.equal((await ask(two, 'POST', `/leases/${acked}/ack`)).status, 204)
    assert.equal((await ask(two, 'POST', `/leases/${nacked}/nack`)).status, 204)
    const extended = await ask(two, 'POST', `/leases/${kept}/extend`, { lease: '5m' })
    assert.equal(extended.status, 200)
    const seen = await ask(two, 'GET', `/leases/${kept}`)
    assert.deepEqual([seen.status, seen.body!['expires_at']], [200, extended.body!['expires_at']])
    const { body } = await ask(two, 'POST', '/leases/settle', {
      ack: [first],
      nack: [{ id: second }],
      extend: [{ id: kept }],
    })
    assert.deepEqual([body!['settled'], body!['failed']], [3, 0])
    // The other instance reports the first settle.
    assert.equal((await ask(two, 'POST', `/leases/${acked}/nack`)).code, 'already_settled')
  })

  it('during a memory alarm only its own instance settles a lease of an instance without ADVERTISE_URL', async () => {
    const [acked, nacked, kept, first] = ofPlain
    const answers = [
      await ask(plainToo, 'POST', `/leases/${acked}/ack`),
      await ask(plainToo, 'POST', `/leases/${nacked}/nack`),
      await ask(plainToo, 'POST', `/leases/${kept}/extend`),
      await ask(plainToo, 'GET', `/leases/${kept}`),
    ]
    for (const { status, code, took } of answers) {
      assert.deepEqual([status, code], [503, 'lease_unreachable'])
      // An attempt to reach the instance through RabbitMQ would last 2.5 s.
      assert.ok(took < 2500, `${took} ms`)
    }
    const { status, body } = await ask(plainToo, 'POST', '/leases/settle', { ack: [first] })
    assert.deepEqual([status, body!['failed']], [200, 1])
    assert.equal((await ask(plain, 'POST', `/leases/${acked}/ack`)).status, 204)
  })
})

describe('unreachable instance', { timeout: 120_000 }, () => {
  it('an instance whose URL refuses connections is reached through RabbitMQ, without another try at once', async () => {
    const owner = await start(`http://127.0.0.1:${await freePort()}`)
    const other = await start()
    for (const lease of await leasesOf(owner, 3)) assert.equal((await ask(other, 'POST', `/leases/${lease}/ack`)).status, 204)
    const metrics = await (await fetch(`${other.url}/metrics`)).text()
    assert.match(metrics, /^gateway_instance_requests_total\{outcome="unreachable"\} 1$/m)
  })

  it('an instance whose URL leads to another instance is reached through RabbitMQ', async () => {
    const successor = await start()
    const owner = await start(successor.url)
    const other = await start()
    const [lease] = await leasesOf(owner, 1)
    assert.equal((await ask(other, 'POST', `/leases/${lease}/ack`)).status, 204)
    assert.match(await (await fetch(`${other.url}/metrics`)).text(), /outcome="not_there"\} 1/)
  })

  it('a lease of a killed instance is gone', async () => {
    const owner = await start()
    const other = await start()
    const [acked, lease] = await leasesOf(owner, 2)
    assert.equal((await ask(other, 'POST', `/leases/${acked}/ack`)).status, 204)
    owner.child.kill('SIGKILL')
    await owner.exited
    await eventually(async () => assert.equal((await ask(other, 'POST', `/leases/${lease}/ack`)).code, 'lease_gone'))
  })

  for (const [what, env] of [
    ['an instance', {}],
    ['an instance with ADVERTISE_URL', SHARED],
  ] as const) {
    it(`a settle that has reached ${what} that is then killed is answered within a second`, async () => {
      const PORT = String(await freePort())
      const advertised = env === SHARED && { ADVERTISE_URL: `http://127.0.0.1:${PORT}` }
      // Only BROKER_TIMEOUT would end the wait for an answer of the killed instance.
      const owner = await readyGateway({ ...plainEnv, ...env, ...advertised, PORT, BROKER_TIMEOUT: '30s' })
      const other = await readyGateway({
        ...plainEnv,
        ...env,
        ...(advertised && { ADVERTISE_URL: 'http://127.0.0.1:1' }),
        BROKER_TIMEOUT: '30s',
      })
      const queue = freshName()
      await witness.put(`/queues/${queue}`).expect(201)
      const [first, settled, read] = await leasesOf(owner, 3)
      assert.equal((await ask(other, 'POST', `/leases/${first}/ack`)).status, 204)
      owner.child.kill('SIGSTOP')
      const answers = Promise.all([ask(other, 'POST', `/leases/${settled}/ack`), ask(other, 'GET', `/leases/${read}`)])
      // Published over the connection of the commands, and confirmed: RabbitMQ has read the commands before.
      for (const _ of [1, 2]) assert.equal((await ask(other, 'POST', `/queues/${queue}/messages`, {})).status, 201)
      owner.child.kill('SIGKILL')
      const killedAt = Date.now()
      const [ack, look] = await answers
      const took = Date.now() - killedAt
      assert.deepEqual([ack.status, ack.code], [503, 'settle_outcome_unknown'])
      assert.deepEqual([look.status, look.code], [410, 'lease_gone'])
      assert.ok(took < 1000, `${took} ms`)
      assert.equal((await ask(other, 'POST', `/leases/${settled}/ack`)).code, 'lease_gone')
    })
  }

  it('a lease of a frozen instance is unreachable in time, and is settled once the instance runs again', async () => {
    const owner = await start()
    const other = await start()
    const [first, second] = await leasesOf(owner, 2)
    assert.equal((await ask(other, 'POST', `/leases/${first}/ack`)).status, 204)
    owner.child.kill('SIGSTOP')
    const { status, code, took } = await ask(other, 'POST', `/leases/${second}/ack`)
    owner.child.kill('SIGCONT')
    assert.deepEqual([status, code], [503, 'lease_unreachable'])
    assert.ok(took < MAX_UNREACHABLE_MS, `${took} ms`)
    await eventually(async () => assert.equal((await ask(other, 'POST', `/leases/${second}/ack`)).status, 204))
  })
})

// Reads a request, sends `reply` and closes the connection.
let reply = ''
const impostor = createServer((socket) => {
  socket.on('error', () => undefined)
  socket.once('data', () => socket.end(reply))
})
const impostorPort = await freePort()
await new Promise<void>((resolve) => impostor.listen(impostorPort, '127.0.0.1', resolve))
after(() => impostor.close())
const [owner, other] = await Promise.all([start(`http://127.0.0.1:${impostorPort}`), start()])

describe('response that is not an instance’s', { timeout: 120_000 }, () => {
  for (const [what, text] of [
    ['an empty response', ''],
    ['a response that is not HTTP', 'hello\r\n'],
    ['half a response', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"results":'],
    ['an unsigned success', 'HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n{"results":[{"ok":true}]}'],
    ['an empty success', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'],
    ['a failure', 'HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n'],
  ] as const) {
    it(`after ${what} from its URL an instance is reached through RabbitMQ`, async () => {
      reply = text
      const [lease] = await leasesOf(owner, 1)
      const seen = await ask(other, 'GET', `/leases/${lease}`)
      assert.equal(seen.status, 200)
      assert.equal((await ask(other, 'POST', `/leases/${lease}/ack`)).status, 204)
      // The owner has settled it.
      assert.equal((await ask(owner, 'GET', `/leases/${lease}`)).status, 410)
    })
  }

  it('a settle without a valid response is unknown if its lease has ended, as it may have ended the lease', async () => {
    reply = ''
    const [expired] = await leasesOf(owner, 1, '1s')
    await eventually(async () => assert.equal((await ask(owner, 'GET', `/leases/${expired}`)).status, 410))
    for (const path of ['ack', 'nack']) {
      const { status, code } = await ask(other, 'POST', `/leases/${expired}/${path}`)
      assert.deepEqual([status, code], [503, 'settle_outcome_unknown'])
    }
    assert.equal((await ask(other, 'GET', `/leases/${expired}`)).code, 'lease_gone')
    const [lost] = await leasesOf(owner, 1)
    owner.child.kill('SIGKILL')
    await owner.exited
    await eventually(async () => {
      assert.equal((await ask(other, 'GET', `/leases/${lost}`)).code, 'lease_gone')
    })
    assert.equal((await ask(other, 'POST', `/leases/${lost}/ack`)).code, 'settle_outcome_unknown')
  })
})
