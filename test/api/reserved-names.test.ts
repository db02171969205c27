// Queues and exchanges of the gateway itself, which hold messages of all clients: rights on all names do not include them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { freshName } from '../support/gateway.js'
import { management } from '../support/management.js'

const { gateway, file, admin, client, clientOf } = await startWithKeys()
const vhost = freshName('vhost')
await management(`vhosts/${vhost}`, { method: 'PUT' })
await management(`permissions/${vhost}/guest`, {
  method: 'PUT',
  body: JSON.stringify({ configure: '.*', write: '.*', read: '.*' }),
})
gateway.cleanups.push(() => management(`vhosts/${vhost}`, { method: 'DELETE' }))

const DUE = 'gateway.delay.due'
/** The header that the gateway sets on a delayed message. */
const forged = (queue: string) => ({
  'gateway-delayed': { vhost, exchange: '', routing_key: queue, properties: { headers: { 'x-tenant': 'evil' } } },
})

async function queueWith(path = '', name = freshName('queue')): Promise<string> {
  await admin.put(`${path}/queues/${name}`).expect(201)
  gateway.cleanups.push(async () => admin.delete(`${path}/queues/${name}`))
  return name
}

describe('queues and exchanges of the gateway', () => {
  it('rights with a wildcard give no access to queues and exchanges of the gateway', async () => {
    const mine = await queueWith()
    await admin.post(`/queues/${mine}/messages?delay=100ms`).send('x').expect(201)
    const all = client('configure:%2F/*', 'write:%2F/*', 'read:%2F/*', 'read:*/gateway*')
    const exchange = freshName('exchange')
    await all.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    gateway.cleanups.push(async () => admin.delete(`/exchanges/${exchange}`))
    const dead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': DUE }
    for (const response of [
      await all.get(`/queues/${DUE}`),
      await all.get(`/queues/${DUE}/messages?ack=requeue`),
      await all.get(`/queues/${DUE}/stream`),
      await all.get('/queues/gateway.delay.100ms/messages'),
      await all.delete(`/queues/${DUE}/messages`),
      await all.delete(`/queues/${DUE}`),
      await all.put(`/queues/${DUE}`),
      await all.post(`/queues/${DUE}/messages`).send('x'),
      await all.post(`/queues/${DUE}/rpc?timeout=1s`).send('x'),
      await all.post(`/queues/${DUE}/messages/batch`).send({ messages: [{ payload: 1 }] }),
      await all.post('/queues/gateway.control.x/messages').send('{"commands": []}'),
      await all.post(`/exchanges/amq.default/messages?routing_key=${DUE}`).send('x'),
      await all.post(`/queues/${mine}/messages`).set('amqp-headers', `{"CC": ["${DUE}"]}`).send('x'),
      await all.post('/exchanges/gateway.delay.100ms/messages?routing_key=1').send('x'),
      await all.delete('/exchanges/gateway.delay.100ms'),
      await all.put(`/exchanges/gateway.delay.100ms/bindings/queues/${mine}?routing_key=%23`),
      await all.put(`/exchanges/${exchange}/bindings/queues/${DUE}?routing_key=x`),
      await all.put(`/queues/${freshName()}`).send({ arguments: dead }),
      await all
        .put(`/exchanges/${freshName()}`)
        .send({ type: 'fanout', arguments: { 'alternate-exchange': 'gateway.delay.100ms' } }),
      await client('write:%2F/amq.default').post(`/exchanges/amq.default/messages?routing_key=${DUE}`).send('x'),
    ]) {
      assert.deepEqual([response.status, response.body.code], [403, 'access_refused'], response.text)
    }
  })

  it('a right that names the queues of the gateway gives access to them', async () => {
    const keeper = client('read:%2F/gateway.delay.*')
    await keeper.get(`/queues/${DUE}`).expect(200)
    await keeper.delete(`/queues/${DUE}`).expect(403)
  })

  it('a message that carries the header of a delayed message is refused', async () => {
    const [queue, secret] = [await queueWith(), await queueWith(`/vhosts/${vhost}`)]
    const author = clientOf(file.add(['write:%2F/*', 'write:%2F/gateway.*'], { headers: { 'x-tenant': 'acme' } }))
    const headers = forged(secret)
    for (const path of [DUE, queue].map((name) => `/queues/${name}`)) {
      for (const what of ['messages', 'messages?delay=100ms', 'messages?confirm=false', 'rpc']) {
        const one = author.post(`${path}/${what}`).set('amqp-headers', JSON.stringify(headers))
        const { body } = await one.send('x').expect(400)
        assert.equal(body.errors[0].pointer, '/header/amqp-headers/gateway-delayed')
      }
      await author.post(`${path}/messages`).set('amqp-header-gateway-delayed', 'x').send('x').expect(400)
      await author.post(`${path}/messages`).set('amqp-header-x-gateway-queue', queue).send('x').expect(400)
      const count = JSON.stringify({ 'X-Gateway-delivery-count': 1 })
      for (const what of ['messages', 'rpc'])
        await author.post(`${path}/${what}`).set('amqp-headers', count).send('x').expect(400)
      const messages = [{ payload: 1, properties: { headers } }]
      const { body } = await author.post(`${path}/messages/batch`).send({ messages }).expect(200)
      assert.equal(body.results[0].status, 'invalid')
      assert.equal(body.results[0].problem.errors[0].pointer, '/properties/headers/gateway-delayed')
    }
    assert.equal((await admin.get(`/vhosts/${vhost}/queues/${secret}`).expect(200)).body.message_count, 0)
  })
})
