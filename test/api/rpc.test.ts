// Request and reply: a call waits for the reply of its worker and gets no other.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { rawClient } from '../support/http.js'

const gateway = await startGateway()
const client = rawClient(gateway.url, 2500)

interface Task {
  payload: unknown
  properties: { reply_to: string; correlation_id: string; expiration: string; message_id: string; headers?: object }
}

/** Receives a task, as an HTTP worker does. */
const receiveTask = async (queue: string): Promise<Task> =>
  eventually(async () => {
    const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&wait=5s`).expect(200)
    assert.equal(body.messages.length, 1)
    return body.messages[0]
  })

/** Publishes the reply to the reply_to of the task, as an HTTP worker does. */
const reply = ({ properties: { reply_to, correlation_id } }: Task, text: string, headers: Record<string, string> = {}) =>
  gateway
    .post(`/exchanges/amq.default/messages?routing_key=${encodeURIComponent(reply_to)}`)
    .set({ 'amqp-correlation-id': correlation_id, ...headers })
    .type('text/plain')
    .send(text)

const call = (queue: string, text: string, query = '', headers: Record<string, string> = {}) =>
  client.send({
    method: 'post',
    path: `/queues/${queue}/rpc${query}`,
    headers: { 'content-type': 'text/plain', ...headers },
    body: text,
  })

describe('calls', () => {
  it('a call is answered with the reply, its properties and the correlation id of the caller', async () => {
    const queue = await freshQueue(gateway)
    const called = call(queue, 'ping', '', { 'amqp-correlation-id': 'mine', 'amqp-header-tenant': 'a', 'amqp-type': 'greeting' })
    const task = await receiveTask(queue)
    assert.equal(task.payload, 'ping')
    assert.deepEqual(task.properties.headers, { tenant: 'a' })
    assert.notEqual(task.properties.correlation_id, 'mine')
    await reply(task, 'pong ü', { 'amqp-header-took': '5', 'amqp-type': 'reply' }).expect(201)
    const { status, headers, text } = await called
    assert.deepEqual([status, text], [200, 'pong ü'])
    assert.deepEqual(
      [headers['content-type'], headers['amqp-correlation-id'], headers['amqp-header-took'], headers['amqp-type']],
      ['text/plain', 'mine', '5', 'reply'],
    )
    assert.equal(headers['cache-control'], 'no-store')
  })

  it('a call through an exchange reaches the bound queue', async () => {
    const queue = await freshQueue(gateway)
    await gateway.put(`/exchanges/amq.topic/bindings/queues/${queue}?routing_key=${queue}.*`).expect(204)
    const called = client.send({
      method: 'post',
      path: `/exchanges/amq.topic/rpc?routing_key=${queue}.add`,
      body: '1+2',
    })
    await reply(await receiveTask(queue), '3').expect(201)
    assert.equal((await called).text, '3')
  })

  it('a call to a missing queue, exchange, vhost or binding is answered with 404 at once', async () => {
    const missing = freshName()
    for (const [path, code] of [
      [`/queues/${missing}/rpc?timeout=60s`, 'queue_not_found'],
      [`/exchanges/${missing}/rpc?timeout=60s`, 'exchange_not_found'],
      [`/exchanges/amq.topic/rpc?routing_key=${missing}&timeout=60s`, 'unroutable'],
      [`/vhosts/${missing}/queues/x/rpc?timeout=60s`, 'vhost_not_found'],
    ] as const) {
      const from = Date.now()
      const { body } = await gateway.post(path).type('text/plain').send('x').expect(404)
      assert.equal(body.code, code)
      assert.ok(Date.now() - from < 10_000)
    }
  })

  it('a call without a reply is answered with 504, and its request leaves the queue', async () => {
    const queue = await freshQueue(gateway)
    const from = Date.now()
    const { status, body } = await call(queue, 'x', '?timeout=300ms')
    assert.deepEqual([status, (body as { code: string }).code], [504, 'rpc_timeout'])
    assert.ok(Date.now() - from >= 300)
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`).expect(200)).body.message_count, 0))
  })

  it('the timeout of a call is the expiration of its request', async () => {
    const queue = await freshQueue(gateway)
    const called = call(queue, 'x', '?timeout=7s')
    const task = await receiveTask(queue)
    assert.equal(task.properties.expiration, '7000')
    await reply(task, 'y').expect(201)
    assert.equal((await called).status, 200)
  })

  it('a late or repeated reply reaches no other call', async () => {
    const queue = await freshQueue(gateway)
    // The worker waits before the call begins, so that the request cannot expire before it is received.
    const taking = receiveTask(queue)
    await eventually(() => assert.equal(gateway.app.services.receiver.waiting, 1))
    const late = call(queue, 'first', '?timeout=500ms')
    const task = await taking
    assert.equal((await late).status, 504)
    const second = call(queue, 'second')
    const other = await receiveTask(queue)
    await reply(task, 'too late')
    await reply(other, 'in time').expect(201)
    assert.equal((await second).text, 'in time')
    // A second reply to a call that has ended.
    await reply(other, 'again')
    const third = call(queue, 'third')
    await reply(await receiveTask(queue), 'the third').expect(201)
    assert.equal((await third).text, 'the third')
  })

  it('each of 2,000 concurrent calls gets its own reply', { timeout: 120_000 }, async () => {
    const queue = await freshQueue(gateway)
    const COUNT = 2000
    const calls = Array.from({ length: COUNT }, (_, n) => call(queue, `task ${n}`, '?timeout=60s'))
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, COUNT), 60_000)
    const waiting = /^gateway_calls_waiting (\d+)$/m.exec((await gateway.get('/metrics')).text)?.[1]
    assert.equal(waiting, String(COUNT))
    const tasks: Task[] = []
    while (tasks.length < COUNT) {
      const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=500&wait=5s`).expect(200)
      tasks.push(...body.messages)
    }
    // In another order than the calls.
    for (let at = 0; at < COUNT; at += 500) {
      const some = tasks.slice(at, at + 500).reverse()
      await Promise.all(
        some.map(({ payload, properties: { reply_to, correlation_id } }) =>
          client.send({
            method: 'post',
            path: `/exchanges/amq.default/messages?routing_key=${encodeURIComponent(reply_to)}`,
            headers: { 'amqp-correlation-id': correlation_id },
            body: `done ${payload}`,
          }),
        ),
      )
    }
    for (const [n, { status, text }] of (await Promise.all(calls)).entries()) {
      assert.deepEqual([status, text], [200, `done task ${n}`])
    }
  })

  it('a call whose client disconnects does not affect the next one', async () => {
    const queue = await freshQueue(gateway)
    const controller = new AbortController()
    const gone = fetch(`${gateway.url}/queues/${queue}/rpc`, { method: 'POST', body: 'x', signal: controller.signal })
    gone.catch(() => undefined)
    const task = await receiveTask(queue)
    controller.abort()
    await reply(task, 'y')
    const next = call(queue, 'next')
    await reply(await receiveTask(queue), 'z').expect(201)
    assert.equal((await next).text, 'z')
  })

  it('a reply whose headers do not fit HTTP is answered with 406', async () => {
    const queue = await freshQueue(gateway)
    const called = call(queue, 'x')
    const { reply_to, correlation_id } = (await receiveTask(queue)).properties
    const messages = [{ payload: 1, routing_key: reply_to, properties: { correlation_id, headers: { long: 'x'.repeat(9000) } } }]
    await gateway.post('/exchanges/amq.default/messages/batch').send({ messages }).expect(200)
    const { status, body } = await called
    assert.deepEqual([status, (body as { code: string }).code], [406, 'not_acceptable'])
  })

  it('an invalid call is refused with 400 and publishes nothing', async () => {
    const queue = await freshQueue(gateway)
    for (const query of ['timeout=0', 'timeout=-1s', 'timeout=x', 'timeout=1d', 'timeout=', 'nonsense=1', 'routing_key=x']) {
      const { body } = await gateway.post(`/queues/${queue}/rpc?${query}`).type('text/plain').send('x').expect(400)
      assert.equal(body.code, 'invalid_request', query)
    }
    for (const headers of [{ 'amqp-headers': '{"CC": ["a"]}' }, { 'amqp-priority': '256' }] as Record<string, string>[]) {
      const { body } = await gateway.post(`/queues/${queue}/rpc`).set(headers).type('text/plain').send('x').expect(400)
      assert.equal(body.code, 'invalid_message')
    }
    assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 0)
  })
})
