// Messages that the gateway publishes again: what the API shows of them, where RabbitMQ routes them later, and when they expire.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { FrameClient, longText } from '../support/amqp-frames.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, freshQueue, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { field, properties } from '../support/wire-samples.js'

const gateway = await startGateway()
const frames = await FrameClient.connect(AMQP_URL)
after(() => frames.close())

const next = async (queue: string, query = '') => {
  const { messages } = (await gateway.get(`/queues/${queue}/messages?wait=10s${query}`).expect(200)).body
  assert.equal(messages.length, 1)
  return messages[0]
}
const nack = (message: { lease: { id: string } }, body: object) =>
  gateway.post(`/leases/${message.lease.id}/nack`).send(body).expect(204)
const bytes = (tagged: { value: string }) => Buffer.from(tagged.value, 'base64')

/** An exchange and a queue that is bound to it for all routing keys. */
async function boundQueue(declaration: object = {}): Promise<{ exchange: string; queue: string }> {
  const [exchange, queue] = [freshName('exchange'), await freshQueue(gateway, declaration)]
  await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
  gateway.cleanups.push(async () => gateway.delete(`/exchanges/${exchange}`))
  await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=%23`).expect(204)
  return { exchange, queue }
}

describe('the routing of a copy', () => {
  for (const type of ['classic', 'quorum']) {
    it(`a copy in a ${type} queue has its key and CC, and is dead-lettered by them`, async () => {
      const dead = await boundQueue()
      const { exchange, queue } = await boundQueue({ type, arguments: { 'x-dead-letter-exchange': dead.exchange } })
      const headers = JSON.stringify({ CC: ['second'], a: 1 })
      await gateway
        .post(`/exchanges/${exchange}/messages?routing_key=eu.order`)
        .set('amqp-headers', headers)
        .send('x')
        .expect(201)
      await nack(await next(queue), { delay: '100ms' })
      const copy = await next(queue)
      assert.deepEqual([copy.exchange, copy.routing_key, copy.delivery_count], [exchange, 'eu.order', 2])
      assert.deepEqual(copy.properties.headers, { CC: ['second'], a: 1 })
      await nack(copy, { requeue: false })
      const letter = await next(dead.queue)
      assert.equal(letter.routing_key, 'eu.order')
      assert.deepEqual(letter.deaths[0].routing_keys, ['eu.order', 'second'])
      assert.equal(letter.properties.headers.a, 1)
    })
  }

  it('the exchange of copies leads to its queue alone, and is deleted with it', async () => {
    const { exchange, queue } = await boundQueue()
    const other = await freshQueue(gateway)
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${other}?routing_key=%23`).expect(204)
    await gateway.post(`/exchanges/${exchange}/messages?routing_key=k`).send('x').expect(201)
    await nack(await next(queue), { delay: '100ms' })
    await nack(await next(queue), { delay: '100ms' })
    await gateway.post(`/leases/${(await next(queue)).lease.id}/ack`).expect(204)
    assert.equal((await gateway.get(`/queues/${other}`).expect(200)).body.message_count, 1)
    const path = `exchanges/%2F/gateway.copies.${queue}`
    assert.equal((await management<{ auto_delete: boolean }>(path)).auto_delete, true)
    await gateway.delete(`/queues/${queue}`).expect(204)
    await eventually(() => assert.rejects(management(path), /404/))
  })

  it('a copy reaches a queue that was deleted and declared again in the meantime', async () => {
    const { exchange, queue } = await boundQueue()
    const publish = () => gateway.post(`/exchanges/${exchange}/messages?routing_key=k`).send('x').expect(201)
    await publish()
    await nack(await next(queue), { delay: '100ms' })
    await nack(await next(queue), { delay: '1s' })
    await gateway.delete(`/queues/${queue}`).expect(204)
    await gateway.put(`/queues/${queue}`).expect(201)
    const { routing_key: key, delivery_count: count } = await next(queue)
    assert.deepEqual([key, count], ['k', 3])
  })
})

describe('the expiration of a copy', () => {
  it('a message that is nacked with a delay again and again expires in its time', async () => {
    const dead = await boundQueue()
    const queue = await freshQueue(gateway, { arguments: { 'x-dead-letter-exchange': dead.exchange } })
    await gateway.post(`/queues/${queue}/messages`).set('amqp-expiration', '1500').send('x').expect(201)
    const from = Date.now()
    let left = 1500
    for (;;) {
      const { messages } = (await gateway.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
      if (messages.length === 0) break
      assert.ok(Number(messages[0].properties.expiration) <= left)
      left = Number(messages[0].properties.expiration)
      await nack(messages[0], { delay: '500ms' })
      assert.ok(Date.now() - from < 20_000)
    }
    const { deaths } = await next(dead.queue)
    assert.deepEqual([deaths[0].queue, deaths[0].reason], [queue, 'expired'])
  })
})

describe('headers of the gateway', () => {
  it('headers of the gateway that another publisher has written are neither shown nor obeyed', async () => {
    const queue = await freshQueue(gateway)
    const count = Buffer.alloc(8)
    count.writeBigInt64BE(-1_000_000n)
    const fields = [
      field('x-gateway-queue', 'S', longText(queue)),
      field('x-gateway-delivery-count', 'l', count),
      field('x-gateway-attempts', 'S', longText('7')),
      field('x-gateway-anything', 'V', Buffer.alloc(0)),
      field('mine', 'V', Buffer.alloc(0)),
    ]
    await frames.publish({ exchange: '', routingKey: queue, properties: properties(fields, []), body: Buffer.from('x') })
    const message = await next(queue)
    assert.deepEqual([message.delivery_count, message.properties.headers], [undefined, { mine: null }])
    await nack(message, { delay: '100ms' })
    assert.equal((await next(queue)).delivery_count, 2)
  })

  it('a copy is shown without headers of the gateway, and can be published again as it is', async () => {
    const [queue, back] = [await freshQueue(gateway), await freshQueue(gateway)]
    await gateway.post(`/queues/${queue}/messages`).set('amqp-header-a', 'b').send('x').expect(201)
    await nack(await next(queue), { delay: '100ms' })
    const raw = await gateway.get(`/queues/${queue}/messages?format=raw&wait=10s&ack=requeue`).expect(200)
    assert.deepEqual(
      Object.keys(raw.headers).filter((name) => name.includes('gateway')),
      [],
    )
    const { payload, properties: shown } = await next(queue)
    await gateway
      .post(`/queues/${back}/messages/batch`)
      .send({ messages: [{ payload, properties: shown }] })
      .expect(200)
    assert.deepEqual((await next(back)).properties, shown)
  })
})

describe('properties that JSON and amqplib round', () => {
  it('a timestamp of 64 bits and texts that are not UTF-8 are exact in JSON, and are published from it bit for bit', async () => {
    const [queue, back] = [await freshQueue(gateway), await freshQueue(gateway)]
    const names = [Buffer.from('caf\xe8', 'latin1'), Buffer.from('caf\xe9', 'latin1')]
    const fields = names.map((name, n) => field(name, 'I', Buffer.of(0, 0, 0, n)))
    const encoded = properties(fields)
    await frames.publish({ exchange: '', routingKey: queue, properties: encoded, body: Buffer.from('x') })
    const { text } = await gateway.get(`/queues/${queue}/messages?wait=10s`).expect(200)
    assert.match(text, /"timestamp":18446744073709551615[,}]/)
    const [shown] = JSON.parse(text).messages
    assert.deepEqual(bytes(shown.properties.correlation_id), Buffer.of(0xff, 0xfe, 0x01))
    assert.deepEqual(shown.properties.headers, { cafè: 0, café: 1 })
    const again = /"properties":(\{.*\}),"lease"/.exec(text)![1]!
    const answer = await fetch(`${gateway.url}/queues/${back}/messages/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: `{"messages":[{"payload":"x","properties":${again}}]}`,
    })
    assert.match(await answer.text(), /"published":1/)
    const message = await frames.get(back)
    assert.ok(message)
    assert.ok(message.properties.includes(Buffer.of(3, 0xff, 0xfe, 0x01)))
    assert.ok(message.properties.includes(Buffer.alloc(8, 0xff)))
    assert.ok(message.properties.includes(Buffer.of(1, 0xc3)))
  })

  it('a timestamp of 64 bits is exact in the raw form', async () => {
    const queue = await freshQueue(gateway)
    await gateway.post(`/queues/${queue}/messages`).set('amqp-timestamp', '18446744073709551615').send('x').expect(201)
    await gateway.post(`/queues/${queue}/messages`).set('amqp-timestamp', '18446744073709551616').send('x').expect(400)
    const raw = await gateway.get(`/queues/${queue}/messages?format=raw&wait=10s&ack=auto`).expect(200)
    assert.equal(raw.headers['amqp-timestamp'], '18446744073709551615')
  })
})
