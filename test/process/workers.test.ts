// WORKERS=n: n processes on one port, each an instance of its own.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshQueue, startGateway } from '../support/gateway.js'
import { type GatewayProcess, readyGateway, spawnGateway } from '../support/process.js'

const witness = await startGateway()
/** Starts three workers on a fixed port, which stays the same if all of them die. Resolves when every worker is ready. */
async function start(env: Record<string, string> = {}): Promise<GatewayProcess> {
  const port = String(await freePort())
  const gateway = await readyGateway({ AMQP_URL, PORT: port, WORKERS: '3', SHUTDOWN_DRAIN: '5s', ...env })
  await eventually(async () => {
    assert.equal(workersOf(gateway).length, 3)
    for (let n = 0; n < 20; n++) assert.equal((await ask(gateway, 'GET', '/health/ready')).status, 200)
    assert.equal(gateway.output().match(/Server listening/g)?.length, 3)
  }, 30_000)
  return gateway
}

/** Sends a request on a new connection, so that the workers take turns. */
const ask = (gateway: GatewayProcess, method: string, path: string, body?: string) =>
  fetch(gateway.url + path, { method, headers: { connection: 'close' }, ...(body !== undefined && { body }) })

function workersOf({ child }: GatewayProcess): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const [, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ')
        return Number(parent) === child.pid
      } catch {
        return false
      }
    })
}

const total = async (gateway: GatewayProcess, name: string): Promise<number> => {
  const text = await (await ask(gateway, 'GET', '/metrics')).text()
  const value = new RegExp(`^${name} ([\\d.]+)$`, 'm').exec(text)?.[1]
  assert.ok(value !== undefined, text.slice(0, 500))
  return Number(value)
}

describe('process with several workers', { timeout: 300_000 }, () => {
  it('workers share a port, settle each other’s leases, and add up their metrics', async () => {
    const gateway = await start()
    assert.equal(workersOf(gateway).length, 3)
    const queue = await freshQueue(witness)
    for (let n = 0; n < 12; n++) assert.equal((await ask(gateway, 'POST', `/queues/${queue}/messages`, `m${n}`)).status, 201)
    assert.equal(await total(gateway, 'gateway_publishes_total\\{outcome="confirmed"\\}'), 12)
    const leases: string[] = []
    for (let n = 0; n < 12; n++) {
      const answer = await ask(gateway, 'GET', `/queues/${queue}/messages`)
      const { messages } = (await answer.json()) as { messages: { lease: { id: string } }[] }
      leases.push(messages[0]!.lease.id)
    }
    assert.equal(await total(gateway, 'gateway_leases_open'), 12)
    for (const lease of leases) assert.equal((await ask(gateway, 'POST', `/leases/${lease}/ack`)).status, 204)
    assert.equal(await total(gateway, 'gateway_leases_open'), 0)
    assert.equal(await total(gateway, 'gateway_leases_ended_total\\{outcome="acked"\\}'), 12)
    assert.ok((await total(gateway, 'gateway_forwarded_settles_total\\{result="answered"\\}')) > 0)
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
  })

  it('workers that are killed are replaced, and their messages return', { timeout: 120_000 }, async () => {
    const gateway = await start()
    const queue = await freshQueue(witness)
    await witness.post(`/queues/${queue}/messages`).type('text/plain').send('kept').expect(201)
    const answer = await ask(gateway, 'GET', `/queues/${queue}/messages?lease=10m`)
    const { messages } = (await answer.json()) as { messages: { lease: { id: string } }[] }
    const before = workersOf(gateway)
    for (const pid of before) process.kill(pid, 'SIGKILL')
    await eventually(async () => assert.equal((await witness.get(`/queues/${queue}`)).body.message_count, 1))
    await eventually(async () => {
      assert.equal(workersOf(gateway).filter((pid) => !before.includes(pid)).length, 3)
      assert.equal((await ask(gateway, 'GET', '/health/ready')).status, 200)
    }, 60_000)
    await eventually(async () => assert.equal((await ask(gateway, 'POST', `/leases/${messages[0]!.lease.id}/ack`)).status, 410))
    gateway.child.kill('SIGINT')
    assert.equal(await gateway.exited, 0)
  })

  it('after SIGTERM workers let leases be settled and return the rest', async () => {
    const gateway = await start()
    const queue = await freshQueue(witness)
    for (const text of ['a', 'b']) await witness.post(`/queues/${queue}/messages`).type('text/plain').send(text).expect(201)
    const answer = await ask(gateway, 'GET', `/queues/${queue}/messages?max=2`)
    const { messages } = (await answer.json()) as { messages: { lease: { id: string } }[] }
    const workers = workersOf(gateway)
    gateway.child.kill('SIGTERM')
    await witness.post(`/leases/${messages[0]!.lease.id}/ack`).expect(204)
    assert.equal(await gateway.exited, 0)
    for (const pid of workers) assert.throws(() => process.kill(pid, 0))
    assert.equal((await witness.get(`/queues/${queue}`)).body.message_count, 1)
  })

  it('workers end when their primary is killed', async () => {
    const gateway = await start({ SHUTDOWN_DRAIN: '0s' })
    const workers = workersOf(gateway)
    assert.equal(workers.length, 3)
    gateway.child.kill('SIGKILL')
    await gateway.exited
    await eventually(() => {
      for (const pid of workers) assert.throws(() => process.kill(pid, 0))
    })
  })

  it('a process whose workers cannot listen exits with an error', async () => {
    const gateway = await start()
    const { port } = new URL(gateway.url)
    const second = spawnGateway({ AMQP_URL, WORKERS: '2', PORT: port })
    assert.notEqual(await second.exited, 0)
    assert.match(second.output(), /cannot listen on 127\.0\.0\.1:\d+/)
  })
})
