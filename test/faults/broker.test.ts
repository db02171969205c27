// The broker stops, comes back and raises alarms: the gateway reports it at once and recovers by itself.

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

describe('memory alarm', () => {
  it('during a memory alarm publishes are refused at once, and receives and settles work', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    for (let i = 0; i < 3; i++) await publish(queue, 201)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    await eventually(() => assert.equal(gateway.app.services.vhosts.default.publisher.connection.state, 'blocked'))
    assert.ok((await gateway.get('/health/ready').expect(503)).body.reason)
    // A publish that was on its way until PUBLISH_TIMEOUT would be a 504 publish_outcome_unknown.
    const { body, headers } = await publish(queue, 503)
    assert.equal(body.code, 'broker_blocked')
    assert.ok(Number(headers['retry-after']) > 0)
    const [one, two] = await receive(queue, '?max=2')
    await gateway.post(`/leases/${one.lease.id}/ack`).expect(204)
    await gateway.post(`/leases/${two.lease.id}/nack`).expect(204)
    assert.equal((await gateway.get(`/queues/${queue}`).expect(200)).body.message_count, 2)
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    await ready()
    await publish(queue, 201)
  })

  it('during a memory alarm an upload continues, and each of its lines has a result', { timeout: 60_000 }, async () => {
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
    // More than PUBLISH_BUFFER.
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
    assert.ok(stored <= results.length - refused, `${stored} are stored, ${refused} were refused`)
  })

  it('a publish that was sent when a memory alarm began is never reported as not stored', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    const answers: { status: number; code?: string; id: string }[] = []
    // The first publish after the alarm is sent before the gateway can know of it.
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
      if (status === 201) assert.ok(stored.includes(id), `${id} was confirmed and is not stored`)
      if (code === 'broker_blocked') assert.ok(!stored.includes(id), `${id} was reported as not stored and is stored`)
    }
  })
})

// RabbitMQ 3.10 may leave a quorum queue without a leader permanently if it is killed within seconds of the declaration.
for (const [how, type] of [
  ['stop', 'quorum'],
  ['kill', 'classic'],
] as const) {
  describe(`broker ${how} and restart`, () => {
    it(`after a ${how} of the broker every call is a 503, every lease is gone, and a restart is noticed`, async () => {
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
      assert.ok(Date.now() - from < 15_000, 'a call waited for the broker')
      assert.equal((await gateway.post(`/leases/${message.lease.id}/ack`).expect(410)).body.code, 'lease_gone')
      assert.equal((await gateway.get('/health/live').expect(200)).body.status, 'live')
      await broker.start()
      await ready()
      // A quorum queue may still elect its leader: until then the broker does not answer, or has no message.
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
  it('connections closed by an administrator are replaced, and their leases are gone', async () => {
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

// RabbitMQ does not answer on a channel that publishes to a broken queue.
describe('unresponsive channel', () => {
  const suspend =
    '[begin sys:suspend(Channel), Channel end || Channel <- rabbit_channel:list(), proplists:get_value(confirm, rabbit_channel:info(Channel, [confirm]))].'

  it('a channel on which RabbitMQ does not answer is replaced, and publishing continues', { timeout: 60_000 }, async () => {
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
