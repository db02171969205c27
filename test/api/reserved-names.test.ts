// Queues and exchanges of the gateway itself, which hold messages of all clients: rights on all names do not include them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Client, startWithKeys, withAuthorization } from '../support/access.js'
import { freshName, startGateway } from '../support/gateway.js'
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

/** Every way for a client to read, write, declare or be replied to at a name of the gateway. @param mine a queue of theirs */
async function attempts(to: Client, mine: string) {
  const exchange = 'gateway.delay.100ms'
  const declare = (args: object) => to.put(`/queues/${freshName()}`).send({ arguments: args })
  const own = { queue: mine, url: 'https://endpoint.invalid/', paused: true }
  const withKey = (key: string) => to.post(`/exchanges/amq.topic/messages?routing_key=${key}`).send('x')
  return [
    ...['gateway.control.x', 'gateway.definitions', 'gateway.delay.undeliverable', 'gateway.anything', DUE].flatMap((name) => [
      to.get(`/queues/${name}`),
      to.get(`/queues/${name}/messages?ack=requeue`),
      to.get(`/queues/${name}/stream`),
      to.post(`/queues/${name}/messages`).send('{"commands": []}'),
      to.post(`/exchanges/amq.default/messages?routing_key=${name}`).send('x'),
      to.put(`/subscriptions/${freshName()}`).send({ ...own, queue: name }),
    ]),
    to.delete(`/queues/${DUE}/messages`),
    to.delete(`/queues/${DUE}`),
    to.put(`/queues/${DUE}`),
    to.put('/queues/gateway.new'),
    to.put('/queues/gateway.new').send({ dead_letter: true }),
    to.post(`/queues/${DUE}/messages?confirm=false`).send('x'),
    to.post(`/queues/${DUE}/messages?delay=1s`).send('x'),
    to.post(`/queues/${DUE}/rpc?timeout=1s`).send('x'),
    to.post(`/exchanges/amq.default/rpc?timeout=1s&routing_key=${DUE}`).send('x'),
    to.post(`/queues/${DUE}/messages/batch`).send({ messages: [{ payload: 1 }] }),
    to.post(`/queues/${mine}/messages`).set('amqp-headers', `{"CC": ["${DUE}"]}`).send('x'),
    to.post(`/queues/${mine}/messages`).set('amqp-headers', '{"BCC": ["gateway.new"]}').send('x'),
    // RabbitMQ may dead-letter it through the default exchange.
    ...['gateway.definitions', 'gateway.control.x', DUE].map(withKey),
    to.put(`/exchanges/${exchange}`).send({ type: 'fanout' }),
    to.get(`/exchanges/${exchange}`),
    to.post(`/exchanges/${exchange}/messages?routing_key=1`).send('x'),
    to.delete(`/exchanges/${exchange}`),
    to.put(`/exchanges/${exchange}/bindings/queues/${mine}?routing_key=%23`),
    to.put(`/exchanges/amq.topic/bindings/queues/${DUE}?routing_key=x`),
    to.put(`/exchanges/amq.topic/bindings/exchanges/${exchange}?routing_key=x`),
    to.put(`/exchanges/${exchange}/bindings/exchanges/amq.topic?routing_key=x`),
    declare({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': DUE }),
    declare({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'gateway.new' }),
    declare({ 'x-dead-letter-exchange': 'amq.topic', 'x-dead-letter-routing-key': DUE }),
    declare({ 'x-dead-letter-exchange': exchange }),
    to.put(`/exchanges/${freshName()}`).send({ type: 'fanout', arguments: { 'alternate-exchange': exchange } }),
    to.post(`/queues/${DUE}/redrive`).send({ to: mine }),
    to.post(`/queues/${mine}/redrive`).send({ to: DUE }),
    to.post(`/queues/${mine}/redrive`).send({ to: { exchange } }),
    to.post(`/queues/${mine}/redrive`).send({ to: { exchange: 'amq.default', routing_key: 'gateway.new' } }),
    to.put(`/queues/${DUE}/retry-policy`).send({}),
  ]
}

describe('queues and exchanges of the gateway', () => {
  const RIGHTS = ['configure:*/*', 'write:*/*', 'read:*/*', 'configure:*/gateway.*', 'write:*/gateway.*', 'read:*/gateway.*']
  const callers: [who: string, () => Promise<Client> | Client][] = [
    ['a client of a gateway without authentication', () => startGateway()],
    ['a key, even with rights that name them', () => client(...RIGHTS)],
    [
      'a user of RabbitMQ who may do everything there',
      async () =>
        withAuthorization(await startGateway({ AUTH: 'broker' }), `Basic ${Buffer.from('guest:guest').toString('base64')}`),
    ],
  ]
  for (const [who, make] of callers) {
    it(`${who} cannot use them in any way`, async () => {
      const mine = await queueWith()
      await admin.post(`/queues/${mine}/messages?delay=100ms`).send('x').expect(201)
      const caller = await make()
      for (const attempt of await attempts(caller, mine)) {
        const { status, body, text, request } = await attempt
        assert.deepEqual([status, body.code], [403, 'access_refused'], `${request.method} ${request.url} ${text}`)
      }
      for (const name of ['gateway.control.x', 'gateway.anything', DUE]) {
        await caller.post(`/queues/${mine}/messages`).set('amqp-reply-to', name).send('x').expect(400)
        const messages = [{ payload: 1, properties: { reply_to: name } }]
        const { body } = await caller.post(`/queues/${mine}/messages/batch`).send({ messages }).expect(200)
        assert.equal(body.results[0].status, 'invalid')
      }
    })
  }

  it('a routing key of the same beginning in another exchange is a word of its publisher', async () => {
    const { body } = await admin.post('/exchanges/amq.topic/messages?routing_key=gateway.payment.accepted').send('x').expect(201)
    assert.equal(body.routed, false)
  })

  it('a message that carries the header of a delayed message is refused', async () => {
    const [queue, secret] = [await queueWith(), await queueWith(`/vhosts/${vhost}`)]
    const author = clientOf(file.add(['write:%2F/*'], { headers: { 'x-tenant': 'acme' } }))
    const headers = forged(secret)
    for (const path of [`/queues/${queue}`]) {
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
