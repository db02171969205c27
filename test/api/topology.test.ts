// Declaring, showing, binding, purging and deleting queues and exchanges.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const gateway = await startGateway()
const publish = (exchange: string, query: string, headers: Record<string, string> = {}) =>
  gateway.post(`/exchanges/${exchange}/messages${query}`).set(headers).send('x').expect(201)
const freshExchange = async (declaration: object) => {
  const name = freshName('exchange')
  await gateway.put(`/exchanges/${name}`).send(declaration).expect(201)
  gateway.cleanups.push(async () => gateway.delete(`/exchanges/${name}`))
  return name
}
const count = async (queue: string) => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

describe('queues', () => {
  it('declaring a queue is answered with 201, then 200, and with other properties 409', async () => {
    const queue = await freshQueue(gateway, { type: 'quorum', arguments: { 'x-max-length': 10 } })
    await gateway
      .put(`/queues/${queue}`)
      .send({ type: 'quorum', arguments: { 'x-max-length': 10 } })
      .expect(200)
    const { body } = await gateway.put(`/queues/${queue}`).send({ type: 'quorum' }).expect(409)
    assert.equal(body.code, 'precondition_failed')
    const declared = await management<{ type: string; durable: boolean; arguments: object }>(`queues/%2F/${queue}`)
    assert.equal(declared.type, 'quorum')
    assert.equal(declared.durable, true)
  })

  it('queue names may have slashes, spaces, any letters and 255 bytes', async () => {
    for (const name of ['a/b', 'größe 漢字', 'with space', '100%', 'dots.and-dashes', 'q'.repeat(255)]) {
      const path = `/queues/${encodeURIComponent(name)}`
      await gateway.put(path).expect(201)
      const { body } = await gateway.get(path).expect(200)
      assert.equal(body.name, name)
      await gateway.post(`${path}/messages`).send('x').expect(201)
      assert.equal((await gateway.get(`${path}/messages?ack=auto`).expect(200)).body.messages[0].routing_key, name)
      await gateway.delete(path).expect(204)
    }
  })

  it('a queue shows its message and consumer counts', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    const { body } = await gateway.get(`/queues/${queue}`).expect(200)
    assert.deepEqual(body, { name: queue, vhost: '/', message_count: 1, consumer_count: 0 })
    assert.equal((await gateway.get(`/queues/${freshName()}`).expect(404)).body.code, 'queue_not_found')
  })

  it('a purge is answered with the number of removed messages', async () => {
    const queue = await freshQueue(gateway)
    for (let i = 0; i < 3; i++) await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    assert.deepEqual((await gateway.delete(`/queues/${queue}/messages`).expect(200)).body, { message_count: 3 })
    assert.equal((await gateway.delete(`/queues/${freshName()}/messages`).expect(404)).body.code, 'queue_not_found')
  })

  it('a queue is deleted only if its conditions hold, and repeatedly with 204', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    assert.equal((await gateway.delete(`/queues/${queue}?if_empty=true`).expect(409)).body.code, 'precondition_failed')
    await gateway.delete(`/queues/${queue}?if_unused=true`).expect(204)
    await gateway.delete(`/queues/${queue}`).expect(204)
    await gateway.get(`/queues/${queue}`).expect(404)
  })

  it('a queue with an invalid argument is refused with 400 and one with a reserved name with 403', async () => {
    const bad = await gateway
      .put(`/queues/${freshName()}`)
      .send({ arguments: { 'x-max-length': 'many' } })
      .expect(400)
    assert.equal(bad.body.code, 'invalid_request')
    assert.equal((await gateway.put('/queues/amq.mine').expect(403)).body.code, 'access_refused')
  })
})

describe('exchanges', () => {
  it('declaring an exchange is answered with 201, then 200, and with another type 409', async () => {
    const exchange = await freshExchange({ type: 'topic' })
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(200)
    assert.equal(
      (await gateway.put(`/exchanges/${exchange}`).send({ type: 'direct' }).expect(409)).body.code,
      'precondition_failed',
    )
    assert.deepEqual((await gateway.get(`/exchanges/${exchange}`).expect(200)).body, { name: exchange, vhost: '/' })
    assert.equal((await gateway.get(`/exchanges/${freshName()}`).expect(404)).body.code, 'exchange_not_found')
  })

  it('an unknown exchange type is refused with 400 and closes no broker connection', async () => {
    const before = await eventually(async () => {
      const mine = (await management<{ name: string; user_provided_name?: string }[]>('connections')).filter((one) =>
        one.user_provided_name?.includes(`:${process.pid} `),
      )
      assert.equal(mine.length, 4)
      return mine.map(({ name }) => name).sort()
    })
    const { body } = await gateway.put(`/exchanges/${freshName()}`).send({ type: 'x-nonsense' }).expect(400)
    assert.equal(body.code, 'invalid_request')
    await eventually(async () => {
      const mine = (await management<{ name: string; user_provided_name?: string }[]>('connections')).filter((one) =>
        one.user_provided_name?.includes(`:${process.pid} `),
      )
      assert.deepEqual(mine.map(({ name }) => name).sort(), before)
    })
  })

  it('a direct exchange routes by routing key', async () => {
    const exchange = await freshExchange({ type: 'direct' })
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=error`).expect(204)
    assert.equal((await publish(exchange, '?routing_key=info')).body.routed, false)
    assert.equal((await publish(exchange, '?routing_key=error')).body.routed, true)
    await gateway.delete(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=error`).expect(204)
    assert.equal((await publish(exchange, '?routing_key=error')).body.routed, false)
  })

  it('a fanout exchange routes to all bound queues and exchanges', async () => {
    const exchange = await freshExchange({ type: 'fanout' })
    const second = await freshExchange({ type: 'fanout' })
    const [one, two] = [await freshQueue(gateway), await freshQueue(gateway)]
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${one}`).expect(204)
    await gateway.put(`/exchanges/${exchange}/bindings/exchanges/${second}`).expect(204)
    await gateway.put(`/exchanges/${second}/bindings/queues/${two}`).expect(204)
    await publish(exchange, '')
    await eventually(async () => assert.deepEqual([await count(one), await count(two)], [1, 1]))
    await gateway.delete(`/exchanges/${exchange}/bindings/exchanges/${second}`).expect(204)
    await publish(exchange, '')
    await eventually(async () => assert.deepEqual([await count(one), await count(two)], [2, 1]))
  })

  it('a topic exchange routes by pattern', async () => {
    const exchange = await freshExchange({ type: 'topic' })
    const queue = await freshQueue(gateway)
    await gateway
      .put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=${encodeURIComponent('*.orange.#')}`)
      .expect(204)
    assert.equal((await publish(exchange, '?routing_key=quick.orange.rabbit')).body.routed, true)
    assert.equal((await publish(exchange, '?routing_key=lazy.brown.fox')).body.routed, false)
  })

  it('a headers exchange routes by message headers', async () => {
    const exchange = await freshExchange({ type: 'headers' })
    const queue = await freshQueue(gateway)
    const args = encodeURIComponent(JSON.stringify({ 'x-match': 'all', format: 'pdf', pages: 3 }))
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?arguments=${args}`).expect(204)
    assert.equal((await publish(exchange, '', { 'amqp-headers': '{"format": "pdf", "pages": 3}' })).body.routed, true)
    assert.equal((await publish(exchange, '', { 'amqp-header-format': 'pdf' })).body.routed, false)
  })

  it('an exchange is deleted only if its conditions hold, and repeatedly with 204', async () => {
    const exchange = await freshExchange({ type: 'fanout' })
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}`).expect(204)
    assert.equal((await gateway.delete(`/exchanges/${exchange}?if_unused=true`).expect(409)).body.code, 'precondition_failed')
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
  })

  it('bindings of missing queues or exchanges are refused with 404, and of the default exchange with 403', async () => {
    const exchange = await freshExchange({ type: 'fanout' })
    const queue = await freshQueue(gateway)
    const noQueue = await gateway.put(`/exchanges/${exchange}/bindings/queues/${freshName()}`).expect(404)
    assert.equal(noQueue.body.code, 'queue_not_found')
    const noExchange = await gateway.put(`/exchanges/${freshName()}/bindings/queues/${queue}`).expect(404)
    assert.equal(noExchange.body.code, 'exchange_not_found')
    const standard = await gateway.put(`/exchanges/amq.default/bindings/queues/${queue}`).expect(403)
    assert.equal(standard.body.code, 'access_refused')
  })

  it('the default exchange always exists and cannot be declared or deleted', async () => {
    assert.equal((await gateway.get('/exchanges/amq.default').expect(200)).body.name, 'amq.default')
    assert.equal((await gateway.put('/exchanges/amq.default').send({ type: 'direct' }).expect(403)).body.code, 'access_refused')
    await gateway.delete('/exchanges/amq.default').expect(403)
  })

  it('a publish to an internal exchange is refused', async () => {
    const exchange = await freshExchange({ type: 'fanout', internal: true })
    assert.equal((await gateway.post(`/exchanges/${exchange}/messages`).send('x').expect(403)).body.code, 'access_refused')
  })
})
