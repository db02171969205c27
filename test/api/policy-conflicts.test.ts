// Where a retry policy meets a queue without dead letters, a queue that is deleted, and a subscription with rules of its own.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isEmpty, publish, QUICK, startReceiver, subscribe, waiting } from '../support/endpoint.js'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from '../support/gateway.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

// Instances of other tests would deliver for the subscriptions, and by other settings.
const vhost = await freshVhost('policies')
const gateway = await startGateway({ ...vhost.env, PUSH_ALLOWED_NETWORKS: '127.0.0.0/8' })
deleteWith(gateway, vhost)
const putPolicy = (queue: string, policy: object, status = 201) =>
  gateway.put(`/queues/${queue}/retry-policy`).send(policy).expect(status)

/** A queue with the queue of its dead letters, which is deleted after the tests. */
async function queueWithDead(type: string): Promise<string> {
  const queue = await freshQueue(gateway, { type, dead_letter: true })
  gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
  return queue
}

describe('the answer to a retry policy', () => {
  for (const type of ['classic', 'quorum'])
    it(`warns that a ${type} queue without dead letters drops messages, and says nothing of one with them`, async () => {
      const plain = await freshQueue(gateway, { type })
      const { body } = await putPolicy(plain, { max_deliveries: 2 })
      assert.match(body.warning, /declared without a dead-letter exchange.*RabbitMQ drops messages after max_deliveries/)
      assert.equal((await putPolicy(plain, { max_deliveries: 2, then: 'discard' }, 200)).body.warning, undefined)
      assert.equal((await putPolicy(plain, { backoff: QUICK }, 200)).body.warning, undefined)
      assert.equal((await putPolicy(await queueWithDead(type), { max_deliveries: 2 })).body.warning, undefined)
      const exchange = { type, arguments: { 'x-dead-letter-exchange': 'amq.fanout' } }
      assert.equal((await putPolicy(await freshQueue(gateway, exchange), { max_deliveries: 2 })).body.warning, undefined)
    })

  it('says that it does not know if RabbitMQ does not tell', async () => {
    const queue = await freshQueue(gateway, { dead_letter: true, arguments: { 'x-message-ttl': 60_000 } })
    gateway.cleanups.push(async () => gateway.delete(`/queues/${queue}.dead`))
    assert.match((await putPolicy(queue, { max_deliveries: 2 })).body.warning, /^The gateway does not know/)
  })

  it('never makes a queue', async () => {
    const queue = freshName()
    assert.equal(await gateway.app.services.vhosts.default.topology.hasDeadLetters(queue), undefined)
    await gateway.get(`/queues/${queue}`).expect(404)
  })
})

describe('a queue that is deleted', () => {
  it('takes its retry policy along, so that a new queue of that name has none', async () => {
    const queue = await freshQueue(gateway)
    await putPolicy(queue, { max_deliveries: 2 })
    await gateway.put(`/queues/${queue}`).send({}).expect(200)
    await gateway.post(`/queues/${queue}/messages`).send({ a: 1 }).expect(201)
    await gateway.delete(`/queues/${queue}?if_empty=true`).expect(409)
    await gateway.get(`/queues/${queue}/retry-policy`).expect(200)
    await gateway.delete(`/queues/${queue}`).expect(204)
    await gateway.put(`/queues/${queue}`).send({}).expect(201)
    await gateway.get(`/queues/${queue}/retry-policy`).expect(404)
  })
})

describe('a subscription', () => {
  const statusOf = async (name: string, at: Gateway = gateway) => (await at.get(`/subscriptions/${name}`).expect(200)).body

  it('has give_up dead_letter by default if its queue has dead letters, otherwise pause', async () => {
    const { url } = await startReceiver()
    const giveUp = async (queue: string, more: object = {}) =>
      (await subscribe(gateway, freshName('subscription'), { queue, url, ...more }))['give_up']
    for (const type of ['classic', 'quorum']) {
      assert.equal(await giveUp(await queueWithDead(type)), 'dead_letter')
      assert.equal(await giveUp(await queueWithDead(type), { give_up: 'pause' }), 'pause')
      assert.equal(await giveUp(await freshQueue(gateway, { type })), 'pause')
    }
  })

  it('overrides the retry policy of its queue, and its answer says so', async () => {
    const queue = await queueWithDead('quorum')
    await putPolicy(queue, { max_deliveries: 2, backoff: QUICK })
    const receiver = await startReceiver()
    receiver.reply = 500
    const name = freshName('subscription')
    const retry = { max_attempts: 4, backoff: QUICK }
    const made = await subscribe(gateway, name, { queue, url: receiver.url, retry, give_up: 'pause' })
    assert.equal(made['retry_policy'], 'overridden')
    await publish(gateway, queue, 'mail')
    await eventually(async () => assert.equal((await statusOf(name)).state, 'paused'), 20_000)
    assert.equal(receiver.got.length, 4)
    // The message that paused the subscription is in its queue, and not dead.
    await eventually(async () => assert.equal(await waiting(gateway, queue), 1))
    await isEmpty(gateway, `${queue}.dead`)
    await gateway.delete(`/queues/${queue}/retry-policy`).expect(204)
    assert.equal((await statusOf(name)).retry_policy, undefined)
  })
})
