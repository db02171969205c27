// A redrive whose instance is killed, whose connection to RabbitMQ is cut, or whose publishes are blocked.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { type Broker, startBroker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { readyGateway } from '../support/process.js'
import { proxied } from '../support/proxy.js'
import { begin, count, ended, numbers, publishAll, takeAll, texts } from '../support/redrive.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

const vhost = await freshVhost('redrive')
const gateway = await startGateway(vhost.env)
deleteWith(gateway, vhost)

/** Expects all texts in the queue `to` and none in `from`. @returns the number of messages, which counts duplicates */
async function arrived(from: string, to: string, all: string[]): Promise<number> {
  assert.equal(await count(gateway, from), 0)
  const there = texts(await takeAll(gateway, to, all.length))
  assert.deepEqual([...new Set(there)].sort(), [...all].sort())
  return there.length
}

/**
 * Has the broker raise a memory alarm as soon as a file exists. A call of rabbitmqctl takes seconds on a busy machine, in which
 * the redrive may end.
 */
async function prepareAlarm({ ctl }: Broker, file: string): Promise<() => Promise<void>> {
  const raise = 'vm_memory_monitor:set_vm_memory_high_watermark(0.00001)'
  const wait = `fun Wait() -> case filelib:is_file("${file}") of true -> ${raise}; false -> timer:sleep(20), Wait() end end`
  await ctl('eval', `spawn(${wait}).`)
  return () => writeFile(file, '')
}

// Each test has its own gateways and queues, and mostly waits.
describe('redrive', { concurrency: true }, () => {
  for (const type of ['classic', 'quorum']) {
    it(`a redrive of a ${type} queue continues at another instance when its own is killed`, { timeout: 90_000 }, async () => {
      const doomed = await readyGateway(vhost.env)
      const [from, to] = [await freshQueue(gateway, { type }), await freshQueue(gateway, { type })]
      const all = numbers(500)
      await publishAll(gateway, from, all)
      const response = await fetch(`${doomed.url}/queues/${from}/redrive`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ to, rate: 40 }),
      })
      assert.equal(response.status, 202)
      const { id, instance } = (await response.json()) as { id: string; instance: string }
      await eventually(async () => assert.ok((await gateway.get(`/redrives/${id}`).expect(200)).body.moved > 40))
      doomed.child.kill('SIGKILL')
      await doomed.exited
      const task = await eventually(async () => {
        const { body } = await gateway.get(`/redrives/${id}`).expect(200)
        assert.notEqual(body.instance, instance)
        return body
      }, 30_000)
      assert.equal(task.state, 'running')
      assert.equal((await ended(gateway, id, 60_000)).state, 'done')
      // Messages in progress at the kill may be duplicated, up to the number that a rate of 40/s has in progress.
      assert.ok((await arrived(from, to, all)) <= all.length + 20)
    })

    it(`a redrive of a ${type} queue continues after its connection was cut`, { timeout: 60_000 }, async () => {
      const { proxy, url } = await proxied(vhost.env.AMQP_URL)
      const cut = await startGateway({ AMQP_URL: url })
      const [from, to] = [await freshQueue(gateway, { type }), await freshQueue(gateway, { type })]
      const all = numbers(400)
      await publishAll(gateway, from, all)
      const { id } = await begin(cut, from, { to, rate: 100 })
      for (const moved of [50, 150, 250]) {
        await eventually(async () => assert.ok((await cut.get(`/redrives/${id}`).expect(200)).body.moved > moved))
        proxy.reset()
      }
      const task = await ended(cut, id)
      assert.equal(task.state, 'done')
      // A message whose confirm or ack was cut off is moved again, up to the number in progress at each cut.
      assert.ok((await arrived(from, to, all)) <= all.length + 3 * 50)
      await cut.close()
    })
  }

  it('a redrive without an instance is continued by the next instance that starts', { timeout: 60_000 }, async () => {
    const alone = await freshVhost('redrive')
    const first = await startGateway(alone.env)
    const [from, to] = [await freshQueue(first), await freshQueue(first)]
    first.cleanups.length = 0
    await publishAll(first, from, numbers(100))
    const { id } = await begin(first, from, { to, rate: 20 })
    await eventually(async () => assert.ok((await first.get(`/redrives/${id}`)).body.moved > 10))
    await first.close()
    const next = await startGateway(alone.env)
    deleteWith(next, alone)
    const task = await eventually(async () => {
      const { body } = await next.get(`/redrives/${id}`).expect(200)
      assert.equal(body.state, 'done')
      return body
    }, 20_000)
    assert.equal(task.moved, 100)
    assert.deepEqual(texts(await takeAll(next, to, 100)), numbers(100))
  })

  it('a redrive waits during a memory alarm and shows the reason', { timeout: 90_000 }, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'gateway-redrive-'))
    const broker = await startBroker({ dir })
    after(async () => {
      await broker.kill()
      await rm(dir, { recursive: true, force: true })
    })
    const raiseAlarm = await prepareAlarm(broker, join(dir, 'raise-alarm'))
    const blocked = await startGateway({ AMQP_URL: broker.url, PUBLISH_TIMEOUT: '2s' })
    const [from, to] = [await freshQueue(blocked), await freshQueue(blocked)]
    const all = numbers(300)
    await publishAll(blocked, from, all)
    const { id } = await begin(blocked, from, { to, rate: 50 })
    const task = async () => (await blocked.get(`/redrives/${id}`).expect(200)).body
    await eventually(async () => assert.ok((await task()).moved > 20))
    await raiseAlarm()
    await eventually(async () => {
      const { state, last_error: error } = await task()
      assert.equal(state, 'running')
      assert.match(error, /^broker_blocked: /)
    })
    await broker.ctl('set_vm_memory_high_watermark', '0.4')
    const { state, moved, failed } = await ended(blocked, id)
    assert.equal(state, 'done')
    // Messages in progress when the alarm began have an unknown outcome, so the originals stay in their queue.
    assert.equal(moved + failed, all.length)
    const stayed = texts(await takeAll(blocked, from, failed))
    assert.equal(stayed.length, failed)
    const there = texts(await takeAll(blocked, to, moved))
    assert.deepEqual([...new Set([...stayed, ...there])].sort(), [...all].sort())
    await blocked.close()
  })
})
