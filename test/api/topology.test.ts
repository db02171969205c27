// Queues, exchanges and bindings.

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
  it('are new once, alike afterwards, and 409 when they are different', async () => {
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

  it('have every kind of name', async () => {
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

  it('show what is in them', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    const { body } = await gateway.get(`/queues/${queue}`).expect(200)
    assert.deepEqual(body, { name: queue, vhost: '/', message_count: 1, consumer_count: 0 })
    assert.equal((await gateway.get(`/queues/${freshName()}`).expect(404)).body.code, 'queue_not_found')
  })

  it('are purged', async () => {
    const queue = await freshQueue(gateway)
    for (let i = 0; i < 3; i++) await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    assert.deepEqual((await gateway.delete(`/queues/${queue}/messages`).expect(200)).body, { message_count: 3 })
    assert.equal((await gateway.delete(`/queues/${freshName()}/messages`).expect(404)).body.code, 'queue_not_found')
  })

  it('are deleted, on condition', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    assert.equal((await gateway.delete(`/queues/${queue}?if_empty=true`).expect(409)).body.code, 'precondition_failed')
    await gateway.delete(`/queues/${queue}?if_unused=true`).expect(204)
    await gateway.delete(`/queues/${queue}`).expect(204)
    await gateway.get(`/queues/${queue}`).expect(404)
  })

  it('are refused with a 400 where an argument is none, and with 403 where the name is the broker’s', async () => {
    const bad = await gateway
      .put(`/queues/${freshName()}`)
      .send({ arguments: { 'x-max-length': 'many' } })
      .expect(400)
    assert.equal(bad.body.code, 'invalid_request')
    assert.equal((await gateway.put('/queues/amq.mine').expect(403)).body.code, 'access_refused')
  })
})

describe('exchanges', () => {
  it('are new once, alike afterwards, and 409 when they are different', async () => {
    const exchange = await freshExchange({ type: 'topic' })
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(200)
    assert.equal(
      (await gateway.put(`/exchanges/${exchange}`).send({ type: 'direct' }).expect(409)).body.code,
      'precondition_failed',
    )
    assert.deepEqual((await gateway.get(`/exchanges/${exchange}`).expect(200)).body, { name: exchange, vhost: '/' })
    assert.equal((await gateway.get(`/exchanges/${freshName()}`).expect(404)).body.code, 'exchange_not_found')
  })

  it('of a type that no plugin brings are a 400 and disturb nobody', async () => {
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

  it('of type direct route by the key', async () => {
    const exchange = await freshExchange({ type: 'direct' })
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=error`).expect(204)
    assert.equal((await publish(exchange, '?routing_key=info')).body.routed, false)
    assert.equal((await publish(exchange, '?routing_key=error')).body.routed, true)
    await gateway.delete(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=error`).expect(204)
    assert.equal((await publish(exchange, '?routing_key=error')).body.routed, false)
  })

  it('of type fanout route to all, through other exchanges too', async () => {
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

  it('of type topic route by pattern', async () => {
    const exchange = await freshExchange({ type: 'topic' })
    const queue = await freshQueue(gateway)
    await gateway
      .put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=${encodeURIComponent('*.orange.#')}`)
      .expect(204)
    assert.equal((await publish(exchange, '?routing_key=quick.orange.rabbit')).body.routed, true)
    assert.equal((await publish(exchange, '?routing_key=lazy.brown.fox')).body.routed, false)
  })

  it('of type headers route by what the headers say', async () => {
    const exchange = await freshExchange({ type: 'headers' })
    const queue = await freshQueue(gateway)
    const args = encodeURIComponent(JSON.stringify({ 'x-match': 'all', format: 'pdf', pages: 3 }))
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?arguments=${args}`).expect(204)
    assert.equal((await publish(exchange, '', { 'amqp-headers': '{"format": "pdf", "pages": 3}' })).body.routed, true)
    assert.equal((await publish(exchange, '', { 'amqp-header-format': 'pdf' })).body.routed, false)
  })

  it('are deleted, on condition', async () => {
    const exchange = await freshExchange({ type: 'fanout' })
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}`).expect(204)
    assert.equal((await gateway.delete(`/exchanges/${exchange}?if_unused=true`).expect(409)).body.code, 'precondition_failed')
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
    await gateway.delete(`/exchanges/${exchange}`).expect(204)
  })

  it('and queues that are not there can’t be bound', async () => {
    const exchange = await freshExchange({ type: 'fanout' })
    const queue = await freshQueue(gateway)
    const noQueue = await gateway.put(`/exchanges/${exchange}/bindings/queues/${freshName()}`).expect(404)
    assert.equal(noQueue.body.code, 'queue_not_found')
    const noExchange = await gateway.put(`/exchanges/${freshName()}/bindings/queues/${queue}`).expect(404)
    assert.equal(noExchange.body.code, 'exchange_not_found')
    const standard = await gateway.put(`/exchanges/amq.default/bindings/queues/${queue}`).expect(403)
    assert.equal(standard.body.code, 'access_refused')
  })

  it('include the default one, which is always there', async () => {
    assert.equal((await gateway.get('/exchanges/amq.default').expect(200)).body.name, 'amq.default')
    assert.equal((await gateway.put('/exchanges/amq.default').send({ type: 'direct' }).expect(403)).body.code, 'access_refused')
    await gateway.delete('/exchanges/amq.default').expect(403)
  })

  it('that are internal take no messages from outside', async () => {
    const exchange = await freshExchange({ type: 'fanout', internal: true })
    assert.equal((await gateway.post(`/exchanges/${exchange}/messages`).send('x').expect(403)).body.code, 'access_refused')
  })
})
