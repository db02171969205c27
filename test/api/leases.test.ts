// The life of a lease: settled, extended, expired or gone, at the instance that holds it or at another.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const gateway = await startGateway()
const publish = (queue: string, text = 'task') => gateway.post(`/queues/${queue}/messages`).send(text).expect(201)
const receive = async (queue: string, query = '') =>
  (await gateway.get(`/queues/${queue}/messages${query}`).expect(200)).body.messages
const lease = async (queue: string, query = '') => {
  await publish(queue)
  const [message] = await receive(queue, `?wait=2s${query}`)
  return message.lease as { id: string; expires_at: string }
}
const code = async (path: string, status: number, body?: object) => {
  const request = gateway.post(path)
  return (await (body ? request.send(body) : request).expect(status)).body.code
}

describe('leases', () => {
  it('an open lease can be looked up and a settled one is answered with 410', async () => {
    const queue = await freshQueue(gateway)
    const { id, expires_at } = await lease(queue, '&lease=10s')
    const { body } = await gateway.get(`/leases/${id}`).expect(200)
    assert.equal(body.queue, queue)
    assert.equal(body.vhost, '/')
    assert.equal(body.expires_at, expires_at)
    assert.equal(Date.parse(expires_at) - Date.parse(body.leased_at), 10_000)
    await gateway.post(`/leases/${id}/ack`).expect(204)
    await gateway.get(`/leases/${id}`).expect(410)
  })

  it('a repeated settlement is answered with 204 and a different one with 409', async () => {
    const queue = await freshQueue(gateway)
    const { id } = await lease(queue)
    await gateway.post(`/leases/${id}/ack`).expect(204)
    await gateway.post(`/leases/${id}/ack`).expect(204)
    assert.equal(await code(`/leases/${id}/nack`, 409), 'already_settled')
    assert.equal(await code(`/leases/${id}/extend`, 409), 'already_settled')
  })

  it('concurrent settlements of a lease have one effect', async () => {
    const queue = await freshQueue(gateway)
    const { id } = await lease(queue)
    const answers = await Promise.all(
      ['ack', 'nack', 'ack', 'nack', 'ack'].map(async (op) => [op, (await gateway.post(`/leases/${id}/${op}`)).status] as const),
    )
    const done = new Set(answers.filter(([, status]) => status === 204).map(([op]) => op))
    assert.equal(done.size, 1)
    assert.ok(answers.every(([op, status]) => status === (done.has(op) ? 204 : 409)))
    const remaining = await receive(queue, done.has('nack') ? '?wait=10s' : '?wait=300ms')
    assert.equal(remaining.length, done.has('nack') ? 1 : 0)
  })

  it('a nack requeues the message', async () => {
    const queue = await freshQueue(gateway)
    const { id } = await lease(queue)
    await gateway.post(`/leases/${id}/nack`).expect(204)
    const [again] = await receive(queue, '?wait=2s')
    assert.equal(again.redelivered, true)
  })

  it('a nack without requeue dead-letters the message', async () => {
    const dead = await freshQueue(gateway)
    const queue = await freshQueue(gateway, { arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead } })
    const { id } = await lease(queue)
    await gateway.post(`/leases/${id}/nack`).send({ requeue: false }).expect(204)
    const [message] = await receive(dead, '?wait=2s')
    assert.equal(message.properties.headers['x-death'][0].reason, 'rejected')
    assert.deepEqual(await receive(queue), [])
  })

  it('the message of an expired lease is requeued within a second, not earlier', async () => {
    const queue = await freshQueue(gateway)
    const { expires_at } = await lease(queue, '&lease=1s')
    const [again] = await receive(queue, '?wait=5s')
    const late = Date.now() - Date.parse(expires_at)
    assert.equal(again.redelivered, true)
    assert.ok(late >= 0 && late < 1000, `${late} ms late`)
  })

  it('an extended lease keeps its message beyond the first expiry', async () => {
    const queue = await freshQueue(gateway)
    const { id } = await lease(queue, '&lease=1s')
    const { body } = await gateway.post(`/leases/${id}/extend`).send({ lease: '1m' }).expect(200)
    assert.ok(Date.parse(body.expires_at) - Date.now() > 55_000)
    assert.deepEqual(await receive(queue, '?wait=2s'), [])
    await gateway.post(`/leases/${id}/ack`).expect(204)
    const second = await lease(queue, '&lease=40s')
    const same = await gateway.post(`/leases/${second.id}/extend`).expect(200)
    assert.ok(Math.abs(Date.parse(same.body.expires_at) - Date.now() - 40_000) < 2000)
  })

  it('a lease cannot be extended beyond the consumer timeout of RabbitMQ', async () => {
    const queue = await freshQueue(gateway)
    const { id, expires_at } = await lease(queue)
    assert.equal(await code(`/leases/${id}/extend`, 409, { lease: '30m' }), 'max_lease_exceeded')
    assert.equal((await gateway.get(`/leases/${id}`).expect(200)).body.expires_at, expires_at)
    await gateway.post(`/leases/${id}/extend`).send({ lease: 1500 }).expect(200)
    const { body } = await gateway.get(`/queues/${queue}/messages?lease=26m`).expect(400)
    assert.equal(body.code, 'invalid_request')
  })

  it('a lease id that the gateway never issued is answered with 404', async () => {
    const queue = await freshQueue(gateway)
    const { id } = await lease(queue)
    const other = `${id.slice(0, -1)}${id.endsWith('A') ? 'B' : 'A'}`
    assert.equal(await code(`/leases/${other}/ack`, 404), 'lease_not_found')
    assert.equal(await code('/leases/nonsense/ack', 404), 'lease_not_found')
    await gateway.post(`/leases/${id}/nack`).expect(204)
  })

  it('a lease is gone when its queue is deleted', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    const { id } = await lease(queue)
    await gateway.delete(`/queues/${queue}`).expect(204)
    assert.equal(await code(`/leases/${id}/ack`, 410), 'lease_gone')
  })

  for (const type of ['classic', 'quorum']) {
    it(`a lease is gone when another client deletes its ${type} queue`, async () => {
      const queue = freshName()
      await gateway.put(`/queues/${queue}`).send({ type }).expect(201)
      const leases = []
      for (let n = 0; n < 6; n++) leases.push((await lease(queue)).id)
      await management(`queues/%2F/${queue}`, { method: 'DELETE' })
      const [looked, extended, acked, nacked, delayed, settled] = leases
      await gateway.get(`/leases/${looked}`).expect(410)
      assert.equal(await code(`/leases/${extended}/extend`, 410), 'lease_gone')
      assert.equal(await code(`/leases/${acked}/ack`, 410), 'lease_gone')
      assert.equal(await code(`/leases/${nacked}/nack`, 410), 'lease_gone')
      assert.equal(await code(`/leases/${delayed}/nack`, 410, { delay: '1s' }), 'lease_gone')
      const { body } = await gateway
        .post('/leases/settle')
        .send({ ack: [settled, acked] })
        .expect(200)
      assert.deepEqual(
        body.results.map(({ status }: { status: string }) => status),
        ['gone', 'gone'],
      )
    })
  }

  it('all leases of one receive are gone when another client deletes their queue', async () => {
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    for (let n = 0; n < 3; n++) await publish(queue)
    const ids = (await receive(queue, '?max=3&wait=2s')).map((message: { lease: { id: string } }) => message.lease.id)
    assert.equal(ids.length, 3)
    await management(`queues/%2F/${queue}`, { method: 'DELETE' })
    await Promise.all(ids.map((id: string) => gateway.post(`/leases/${id}/ack`).expect(410)))
  })

  it('a bulk settle acks, nacks and extends leases with one result each, and accepts up to 1000', async () => {
    const queue = await freshQueue(gateway)
    for (let i = 0; i < 6; i++) await publish(queue, `task ${i}`)
    const ids = (await receive(queue, '?max=6')).map((message: { lease: { id: string } }) => message.lease.id)
    await gateway.post(`/leases/${ids[5]}/ack`).expect(204)
    const { body } = await gateway
      .post('/leases/settle')
      .send({
        ack: [ids[0], ids[1], ids[0]],
        nack: [{ id: ids[2] }, { id: ids[5] }, { id: 'nonsense', requeue: false }],
        extend: [
          { id: ids[3], lease: '1m' },
          { id: ids[4], lease: '2h' },
        ],
      })
      .expect(200)
    const statuses = body.results.map(({ status }: { status: string }) => status)
    assert.deepEqual(statuses, ['acked', 'acked', 'acked', 'nacked', 'conflict', 'gone', 'extended', 'conflict'])
    assert.equal(body.results[5].problem.code, 'lease_not_found')
    assert.equal(body.results[7].problem.code, 'max_lease_exceeded')
    assert.deepEqual([body.settled, body.failed], [5, 3])
    await gateway
      .post('/leases/settle')
      .send({ ack: [ids[3], ids[4]] })
      .expect(200)
    await gateway
      .post('/leases/settle')
      .send({ ack: Array.from({ length: 1001 }, () => ids[0]) })
      .expect(400)
    await gateway.post('/leases/settle').send({}).expect(200)
  })
})

describe('leases of other instances', () => {
  it('a lease can be looked up, extended and settled at any instance', async () => {
    const other = await startGateway()
    const queue = await freshQueue(gateway)
    const { id } = await lease(queue)
    assert.equal((await other.get(`/leases/${id}`).expect(200)).body.queue, queue)
    await other.post(`/leases/${id}/extend`).send({ lease: '2m' }).expect(200)
    await other.post(`/leases/${id}/ack`).expect(204)
    await other.post(`/leases/${id}/ack`).expect(204)
    assert.equal((await other.post(`/leases/${id}/nack`).expect(409)).body.code, 'already_settled')
    assert.equal(await code(`/leases/${id}/nack`, 409), 'already_settled')
  })

  it('the leases of a stopped instance are gone and their messages requeued', async () => {
    const other = await startGateway()
    const queue = await freshQueue(gateway)
    await publish(queue)
    const [message] = (await other.get(`/queues/${queue}/messages?lease=10m`).expect(200)).body.messages
    await other.close()
    assert.equal(await code(`/leases/${message.lease.id}/ack`, 410), 'lease_gone')
    const [again] = await receive(queue, '?wait=2s')
    assert.equal(again.redelivered, true)
  })
})
