// Attempts to bypass rights: through other instances, CC, dead letters, bindings, routing keys and unusual spellings of names.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Client, startWithKeys } from '../support/access.js'
import { freshName } from '../support/gateway.js'

const { gateway, file, client, admin } = await startWithKeys()
const other = await startWithKeys({}, file)

async function queueWith(messages: string[] = [], name = freshName('queue')): Promise<string> {
  await admin.put(`/queues/${encodeURIComponent(name)}`).expect(201)
  gateway.cleanups.push(async () => admin.delete(`/queues/${encodeURIComponent(name)}`))
  for (const message of messages)
    await admin
      .post(`/queues/${encodeURIComponent(name)}/messages`)
      .send(message)
      .expect(201)
  return name
}
async function exchange(type = 'topic'): Promise<string> {
  const name = freshName('exchange')
  await admin.put(`/exchanges/${name}`).send({ type }).expect(201)
  gateway.cleanups.push(async () => admin.delete(`/exchanges/${name}`))
  return name
}
const count = async (queue: string) => (await admin.get(`/queues/${queue}`).expect(200)).body.message_count
const lease = async (from: Client, queue: string): Promise<string> =>
  (await from.get(`/queues/${queue}/messages?wait=5s`).expect(200)).body.messages[0].lease.id
const refused = (response: { body: { code: string } }) => assert.equal(response.body.code, 'access_refused')

describe('rights on leases', () => {
  it('a lease can be settled only by keys with read on its queue, at every instance', async () => {
    const queue = await queueWith(['a', 'b'])
    const [reader, stranger] = [client(`read:%2F/${queue}`), client('read:%2F/another', `write:%2F/${queue}`)]
    const strangerAtOther = other.clientOf(file.add(['read:%2F/another', `configure:%2F/${queue}`]))
    const id = await lease(reader, queue)
    for (const caller of [stranger, strangerAtOther]) {
      for (const action of ['ack', 'nack', 'extend']) refused(await caller.post(`/leases/${id}/${action}`).expect(403))
      refused(await caller.get(`/leases/${id}`).expect(403))
    }
    const readerAtOther = other.clientOf(file.add([`read:%2F/${queue}`]))
    assert.equal((await readerAtOther.get(`/leases/${id}`).expect(200)).body.queue, queue)
    await readerAtOther.post(`/leases/${id}/ack`).expect(204)
    // The refusal does not reveal whether the lease is settled.
    refused(await strangerAtOther.post(`/leases/${id}/ack`).expect(403))
    assert.equal((await reader.post(`/leases/${id}x/ack`).expect(404)).body.code, 'lease_not_found')
  })

  it('a bulk settle refuses only the leases of queues that the key may not read', async () => {
    const [mine, theirs] = [await queueWith(['a', 'b']), await queueWith(['c', 'd'])]
    const reader = other.clientOf(file.add([`read:%2F/${mine}`]))
    const ids = [await lease(admin, mine), await lease(admin, theirs), await lease(admin, mine), await lease(admin, theirs)]
    const body = { ack: [ids[0], ids[1]], nack: [{ id: ids[2] }], extend: [{ id: ids[3] }] }
    const { body: answer } = await reader.post('/leases/settle').send(body).expect(200)
    assert.deepEqual(
      answer.results.map(({ id, status }: { id: string; status: string }) => [id, status]),
      [
        [ids[0], 'acked'],
        [ids[1], 'refused'],
        [ids[2], 'nacked'],
        [ids[3], 'refused'],
      ],
    )
    assert.equal(answer.results[1].problem.code, 'access_refused')
    await admin.post(`/leases/${ids[1]}/ack`).expect(204)
  })
})

describe('rights to publish', () => {
  it('CC and BCC need write on the queues that they name', async () => {
    const [mine, theirs] = [await queueWith(), await queueWith()]
    const author = client(`write:%2F/${mine}`)
    for (const name of ['CC', 'BCC']) {
      const headers = JSON.stringify({ [name]: [theirs] })
      const send = (path: string) => author.post(path).set('amqp-headers', headers).send('x')
      refused(await send(`/queues/${mine}/messages`).expect(403))
      refused(await send(`/queues/${mine}/messages?confirm=false`).expect(403))
      refused(await send(`/exchanges/amq.default/messages?routing_key=${mine}`).expect(403))
      const message = { payload: 1, properties: { headers: { [name]: [theirs] } } }
      const { body } = await author
        .post(`/queues/${mine}/messages/batch`)
        .send({ messages: [message, { payload: 2 }] })
        .expect(200)
      assert.deepEqual(
        body.results.map(({ status, problem }: { status: string; problem?: { code: string } }) => [status, problem?.code]),
        [
          ['rejected', 'access_refused'],
          ['confirmed', undefined],
        ],
      )
    }
    assert.equal(await count(theirs), 0)
    const both = client(`write:%2F/${mine}`, `write:%2F/${theirs}`)
    await both
      .post(`/queues/${mine}/messages`)
      .set('amqp-headers', JSON.stringify({ CC: [theirs] }))
      .send('x')
      .expect(201)
  })

  it('write can be limited to routing keys of an exchange, for messages, batches, calls and CC', async () => {
    const name = await exchange()
    const author = client(`write:%2F/${name}/eu.*`)
    await author.post(`/exchanges/${name}/messages?routing_key=eu.de`).send('x').expect(201)
    for (const key of ['us.ca', '', 'eu', 'eu.%2A&routing_key=us']) {
      refused(await author.post(`/exchanges/${name}/messages?routing_key=${key}`).send('x').expect(403))
      refused(await author.post(`/exchanges/${name}/rpc?routing_key=${key}&timeout=1s`).send('x').expect(403))
    }
    const cc = author.post(`/exchanges/${name}/messages?routing_key=eu.de`).set('amqp-headers', '{"CC":["us.ca"]}')
    refused(await cc.send('x').expect(403))
    const messages = ['eu.fr', 'us.ca', undefined].map((key) => ({ payload: 1, ...(key && { routing_key: key }) }))
    const { body } = await author.post(`/exchanges/${name}/messages/batch?routing_key=us.tx`).send({ messages }).expect(200)
    assert.deepEqual(
      body.results.map((result: { problem?: { code: string } }) => result.problem?.code),
      ['unroutable', 'access_refused', 'access_refused'],
    )
  })

  it('a publish through the default exchange needs write on the queue', async () => {
    const [mine, theirs] = [await queueWith(), await queueWith()]
    const author = client(`write:%2F/${mine}`)
    await author.post(`/exchanges/amq.default/messages?routing_key=${mine}`).send('x').expect(201)
    refused(await author.post(`/exchanges/amq.default/messages?routing_key=${theirs}`).send('x').expect(403))
    const messages = [mine, theirs].map((key) => ({ payload: 1, routing_key: key }))
    const { body } = await author.post('/exchanges/amq.default/messages/batch').send({ messages }).expect(200)
    assert.deepEqual(
      body.results.map(({ status }: { status: string }) => status),
      ['confirmed', 'rejected'],
    )
    assert.equal(await count(theirs), 0)
  })
})

describe('rights to declare', () => {
  it('a queue with a dead-letter exchange needs read on itself and write on the dead-letter target', async () => {
    const [theirs, name, mine] = [await queueWith(), await exchange(), freshName('mine')]
    const all = ['configure', 'write', 'read'].map((right) => `${right}:%2F/${mine}*`)
    const owner = client(...all)
    const declare = (args: object) => owner.put(`/queues/${mine}`).send({ arguments: args })
    const dead = (exchange: unknown, key?: unknown) => ({
      'x-dead-letter-exchange': exchange,
      ...(key !== undefined && { 'x-dead-letter-routing-key': key }),
    })
    for (const args of [dead('', theirs), dead(''), dead(name), dead(name, mine), dead('amq.default', theirs), dead(1)]) {
      refused(await declare(args).expect(403))
    }
    refused(await declare(dead({ amqp_type: 'bytes', value: '' }, mine)).expect(403))
    await declare(dead('', `${mine}.dead`)).expect(201)
    gateway.cleanups.push(async () => admin.delete(`/queues/${mine}`))
    // RabbitMQ requires `read` on a queue with a dead-letter exchange, since its messages leave it.
    refused(
      await client(all[0]!, all[1]!)
        .put(`/queues/${mine}`)
        .send({ arguments: dead('', mine) })
        .expect(403),
    )
  })

  it('an exchange with an alternate exchange needs write on the alternate', async () => {
    const [theirs, mine] = [await exchange(), freshName('mine')]
    const owner = client(...['configure', 'write', 'read'].map((right) => `${right}:%2F/${mine}*`))
    const declare = (alternate: string) =>
      owner.put(`/exchanges/${mine}`).send({ type: 'direct', arguments: { 'alternate-exchange': alternate } })
    for (const alternate of [theirs, 'amq.fanout', '']) refused(await declare(alternate).expect(403))
    await declare(`${mine}.rest`).expect(201)
    gateway.cleanups.push(async () => admin.delete(`/exchanges/${mine}`))
  })

  it('a binding needs read on the source and write on the destination, for its routing key', async () => {
    const [queue, source, destination] = [await queueWith(), await exchange(), await exchange()]
    const bind = (who: Client, to: string, key: string) => who.put(`/exchanges/${source}/bindings/${to}?routing_key=${key}`)
    const some = client(`read:%2F/${source}/eu.*`, `write:%2F/${queue}`, `write:%2F/${destination}/eu.*`)
    await bind(some, `queues/${queue}`, 'eu.de').expect(204)
    refused(await bind(some, `queues/${queue}`, '%23').expect(403))
    // The destination exchange would get messages with any routing key.
    refused(await bind(some, `exchanges/${destination}`, 'eu.de').expect(403))
    await bind(client(`read:%2F/${source}`, `write:%2F/${destination}`), `exchanges/${destination}`, 'eu.de').expect(204)
  })
})

describe('refusals', () => {
  it('a refusal is the same whether the queue, exchange or vhost exists or not', async () => {
    const [queue, name] = [await queueWith(['x']), await exchange()]
    const stranger = client('read:%2F/something.else')
    const answers = async (queue: string, name: string, vhost: string) => {
      const responses = [
        await stranger.get(`${vhost}/queues/${queue}`),
        await stranger.get(`${vhost}/queues/${queue}/messages`),
        await stranger.get(`${vhost}/queues/${queue}/stream`),
        await stranger.post(`${vhost}/queues/${queue}/messages`).send('x'),
        await stranger.post(`${vhost}/queues/${queue}/messages/batch`).send({ messages: [{ payload: 1 }] }),
        await stranger.put(`${vhost}/queues/${queue}`).send({ durable: false }),
        await stranger.delete(`${vhost}/queues/${queue}/messages`),
        await stranger.get(`${vhost}/exchanges/${name}`),
        await stranger.post(`${vhost}/exchanges/${name}/messages?mandatory=true`).send('x'),
      ]
      return responses.map(({ status, body: { request_id: _, instance: __, ...rest } }) => ({ status, ...rest }))
    }
    const existing = await answers(queue, name, '')
    for (const { status } of existing) assert.equal(status, 403)
    assert.deepEqual(await answers('nowhere', 'nowhere', ''), existing)
    assert.deepEqual(await answers('nowhere', 'nowhere', '/vhosts/nowhere'), existing)
  })

  it('a request without the right is refused before its input is validated', async () => {
    const stranger = client('read:%2F/something.else')
    refused(await stranger.put('/queues/q').type('json').send('{').expect(403))
    refused(await stranger.post('/queues/q/messages').set('amqp-priority', '999').send('x').expect(403))
    refused(await stranger.get('/queues/q/messages?max=0').expect(403))
  })
})

describe('spellings of names', () => {
  it('a name is decoded once and compared exactly, so that no other spelling reaches another queue', async () => {
    const reader = client('read:%2F/orders', 'read:%2F/a/b'.replace('a/b', 'a%2Fb'))
    const paths = [
      'a%2f..%2forders',
      '..%2forders',
      'orders%2f',
      'orders%252f',
      '%2Forders',
      'ORDERS',
      'Orders',
      'orders%00',
      'orders%20',
      '%25orders',
    ]
    for (const path of paths) refused(await reader.get(`/queues/${path}/messages`).expect(403))
    for (const path of ['orders', '%6frders', 'a%2fb', 'a%2Fb']) await reader.get(`/queues/${path}/messages`).expect(404)
    for (const path of [
      '/queues/orders/',
      '/queues/orders/messages/',
      '//queues/orders',
      '/Queues/orders',
      '/queues/./orders',
      '/queues/a/b',
    ]) {
      assert.ok([401, 403, 404].includes((await reader.get(path)).status), path)
      assert.equal((await gateway.get(path)).status, 401, path)
    }
    const inVhost = client('read:v%2Fw/q')
    refused(await inVhost.get('/vhosts/v/queues/q/messages').expect(403))
    refused(await inVhost.get('/vhosts/v%252Fw/queues/q/messages').expect(403))
    await inVhost.get('/vhosts/v%2Fw/queues/q/messages').expect(404)
  })
})
