// The broker goes away, comes back, and raises alarms; the gateway says so at once and heals by itself.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startBroker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { freshName, startGateway } from '../support/gateway.js'
import { openUpload } from '../support/upload.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-faults-'))
const broker = await startBroker({ dir })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})
const gateway = await startGateway({ AMQP_URL: broker.url, PUBLISH_TIMEOUT: '3s' })
const publish = (queue: string, status: number, text = 'x') => gateway.post(`/queues/${queue}/messages`).send(text).expect(status)
const receive = async (queue: string, query = '') =>
  (await gateway.get(`/queues/${queue}/messages${query}`).expect(200)).body.messages
const ready = () => eventually(() => assert.equal(gateway.app.services.notReady(), undefined), 60_000)

describe('a memory alarm', () => {
  it('refuses publishes at once, while receiving and settling go on', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    for (let i = 0; i < 3; i++) await publish(queue, 201)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    const reason = await eventually(async () => {
      const { body } = await gateway.get('/health/ready').expect(503)
      assert.match(body.reason, /blocked/)
      return body.reason
    })
    assert.ok(reason)
    const from = Date.now()
    const { body, headers } = await publish(queue, 503)
    assert.equal(body.code, 'broker_blocked')
    assert.ok(Number(headers['retry-after']) > 0)
    assert.ok(Date.now() - from < 2500)
    const [one, two] = await receive(queue, '?max=2')
    await gateway.post(`/leases/${one.lease.id}/ack`).expect(204)
    await gateway.post(`/leases/${two.lease.id}/nack`).expect(204)
    assert.equal((await gateway.get(`/queues/${queue}`).expect(200)).body.message_count, 2)
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await ready()
    await publish(queue, 201)
  })

  it('ends no upload and holds none up: each line is told what became of it', { timeout: 60_000 }, async () => {
    const small = await startGateway({
      AMQP_URL: broker.url,
      PUBLISH_TIMEOUT: '2s',
      PUBLISH_BUFFER: '1MiB',
      MAX_MESSAGE_SIZE: '1MiB',
    })
    const queue = freshName()
    await small.put(`/queues/${queue}`).expect(201)
    const { outgoing, until, whole } = openUpload(`${small.url}/queues/${queue}/messages/batch`)
    outgoing.write('{"payload": "before"}\n')
    await until(1)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    // More than may be on its way.
    for (let n = 0; n < 40; n++) outgoing.write(`{"payload": "${'x'.repeat(100_000)}"}\n`)
    await until(41, 30_000)
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await eventually(() => assert.equal(small.app.services.notReady(), undefined), 30_000)
    outgoing.end('{"payload": "after"}\n')
    const { results } = await whole()
    assert.equal(results.at(0)!.status, 'confirmed')
    assert.equal(results.at(-1)!.status, 'confirmed')
    const during = results.slice(1, -1).map(({ status, problem }) => `${status} ${problem?.code}`)
    for (const what of during) assert.ok(['unknown publish_outcome_unknown', 'rejected broker_blocked'].includes(what), what)
    const refused = during.filter((what) => what.startsWith('rejected')).length
    assert.ok(refused > 0)
    const stored = (await small.get(`/queues/${queue}`).expect(200)).body.message_count
    assert.ok(stored <= results.length - refused, `${stored} are there, ${refused} were refused`)
  })

  it('never says of a publish that was on its way that it failed', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    const answers: { status: number; code?: string; id: string }[] = []
    // The first to be written after the alarm is on its way before the gateway can know.
    for (let i = 0; answers.every(({ code }) => code !== 'broker_blocked') && i < 2000; i++) {
      const id = `m${i}`
      const { status, body } = await gateway.post(`/queues/${queue}/messages`).set('amqp-message-id', id).send('x')
      answers.push({ status, code: body.code, id })
    }
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await ready()
    const codes = new Set(answers.map(({ code }) => code))
    for (const code of codes) assert.ok([undefined, 'broker_blocked', 'publish_outcome_unknown'].includes(code), code)
    const stored: string[] = []
    for (
      let got = await receive(queue, '?ack=auto&max=1000&wait=1s');
      got.length > 0;
      got = await receive(queue, '?ack=auto&max=1000')
    ) {
      stored.push(...got.map((message: { properties: { message_id: string } }) => message.properties.message_id))
    }
    for (const { status, code, id } of answers) {
      if (status === 201) assert.ok(stored.includes(id), `${id} was confirmed and is not there`)
      if (code === 'broker_blocked') assert.ok(!stored.includes(id), `${id} was called not stored and is there`)
    }
  })
})

// RabbitMQ 3.10 may leave a quorum queue without a leader for good when it is killed seconds after the queue was declared.
for (const [how, type] of [
  ['stop', 'quorum'],
  ['kill', 'classic'],
] as const) {
  describe(`a broker after ${how}`, () => {
    it('is a 503 at once for every call, ends every lease, and is served again by itself', async () => {
      const queue = freshName()
      await gateway.put(`/queues/${queue}`).send({ type }).expect(201)
      await publish(queue, 201, 'kept')
      const [message] = await receive(queue, '?wait=2s&lease=10m')
      const other = freshName()
      await gateway.put(`/queues/${other}`).expect(201)
      const poll = gateway.get(`/queues/${other}/messages?wait=60s`).expect(503)
      const answered = poll.then((response) => response)
      await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 1))
      await broker[how]()
      assert.equal((await answered).body.code, 'broker_unavailable')
      await eventually(() => assert.ok(gateway.app.services.notReady()))
      const calls = [
        gateway.post(`/queues/${queue}/messages`).send('x'),
        gateway.get(`/queues/${queue}/messages?wait=60s`),
        gateway.get(`/queues/${queue}`),
        gateway.put(`/exchanges/${queue}`).send({ type: 'fanout' }),
      ]
      const from = Date.now()
      for (const call of calls) {
        const { body, headers } = await call.expect(503)
        assert.equal(body.code, 'broker_unavailable')
        assert.ok(Number(headers['retry-after']) > 0)
      }
      assert.ok(Date.now() - from < 4000)
      assert.equal((await gateway.post(`/leases/${message.lease.id}/ack`).expect(410)).body.code, 'lease_gone')
      assert.equal((await gateway.get('/health/live').expect(200)).body.status, 'live')
      await broker.start()
      await ready()
      // A quorum queue may still elect its leader: the broker does not answer, or not yet with a message.
      const again = await eventually(async () => {
        const [found] = await receive(queue, '?wait=5s')
        assert.ok(found)
        return found
      }, 60_000)
      assert.equal(again.payload, 'kept')
      assert.equal(again.redelivered, true)
      await gateway.post(`/leases/${again.lease.id}/ack`).expect(204)
      await eventually(() => publish(queue, 201), 30_000)
    })
  })
}

describe('connections closed by an administrator', () => {
  it('come back by themselves, and their leases are gone', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    await publish(queue, 201)
    const [message] = await receive(queue)
    await broker.ctl('close_all_connections', 'maintenance')
    await eventually(async () => {
      await gateway.post(`/leases/${message.lease.id}/ack`).expect(410)
    })
    await ready()
    const [again] = await receive(queue, '?wait=5s')
    assert.equal(again.redelivered, true)
  })
})

describe('a channel that RabbitMQ never answers on, as over a queue that is broken', () => {
  const suspend =
    '[begin sys:suspend(Channel), Channel end || Channel <- rabbit_channel:list(), proplists:get_value(confirm, rabbit_channel:info(Channel, [confirm]))].'

  it('is given up for another one, and publishing goes on', { timeout: 60_000 }, async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    await publish(queue, 201)
    const pids = await broker.ctl('eval', suspend)
    assert.match(pids, /<\d/)
    assert.equal((await publish(queue, 504)).body.code, 'publish_outcome_unknown')
    await eventually(() => publish(queue, 201), 30_000)
    const list = pids.match(/<[\d.]+>/g)!.map((pid) => `"${pid}"`)
    await broker.ctl('eval', `[catch sys:resume(list_to_pid(Pid)) || Pid <- [${list.join(', ')}]].`)
  })
})
