// Many messages in one request: one result for each, in order, and an invalid message fails alone.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { rawClient } from '../support/http.js'
import { openUpload, type Result } from '../support/upload.js'

const gateway = await startGateway({ MAX_MESSAGE_SIZE: '1MiB', MAX_BATCH_SIZE: '8MiB', PUBLISH_BUFFER: '2MiB' })

const count = async (queue: string): Promise<number> => (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

async function publish(queue: string, messages: unknown[]): Promise<{ published: number; failed: number; results: Result[] }> {
  return (await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)).body
}

async function receive(queue: string, max = 100) {
  const { body } = await gateway.get(`/queues/${queue}/messages?ack=auto&max=${max}`).expect(200)
  return body.messages as {
    payload: unknown
    payload_encoding: string
    routing_key: string
    properties: Record<string, unknown>
  }[]
}

describe('publishing a batch', () => {
  it('a batch is published in order, each message with its own payload and properties', async () => {
    const queue = await freshQueue(gateway)
    const { published, failed, results } = await publish(queue, [
      { payload: 'text' },
      { payload: { big: 1 }, id: 'mine' },
      { payload: 'AAH/', payload_encoding: 'base64' },
      { payload: '{"a": 1}', payload_encoding: 'string', properties: { content_type: 'application/json' } },
      { payload: null },
      { payload: 'all', properties: { message_id: 'm-5', priority: 3, headers: { tenant: 'a', n: 7 }, timestamp: 1700000000 } },
    ])
    assert.deepEqual([published, failed], [6, 0])
    assert.deepEqual(
      results.map(({ index, id, status }) => [index, id, status]),
      [0, 1, 2, 3, 4, 5].map((index) => [index, index === 1 ? 'mine' : undefined, 'confirmed']),
    )
    const messages = await receive(queue)
    assert.deepEqual(
      messages.map(({ payload }) => payload),
      ['text', { big: 1 }, 'AAH/', { a: 1 }, null, 'all'],
    )
    assert.deepEqual(
      messages.map(({ properties }) => properties['message_id']),
      results.map(({ message_id }) => message_id),
    )
    assert.equal(messages[1]!.properties['content_type'], 'application/json')
    const { message_id, priority, headers, timestamp, delivery_mode } = messages[5]!.properties
    assert.deepEqual(
      { message_id, priority, headers, timestamp, delivery_mode },
      { message_id: 'm-5', priority: 3, headers: { tenant: 'a', n: 7 }, timestamp: 1700000000, delivery_mode: 2 },
    )
  })

  it('a batch publishes JSON payloads byte for byte, with numbers of any size', async () => {
    const queue = await freshQueue(gateway)
    const payload = '{"n": 12345678901234567890123, "f": 1.10,\n "e": 1e400, "n": 9007199254740993}'
    const { status } = await rawClient(gateway.url).send({
      method: 'post',
      path: `/queues/${queue}/messages/batch`,
      headers: { 'content-type': 'application/json' },
      body: `{ "messages" : [ {"payload" :${payload} } ] }`,
    })
    assert.equal(status, 200)
    const { text } = await rawClient(gateway.url).send({
      method: 'get',
      path: `/queues/${queue}/messages?ack=auto&format=raw`,
    })
    assert.equal(text, payload)
  })

  it('a batch of 1 or 10,000 messages is published and one of 10,001 refused', { timeout: 60_000 }, async () => {
    const queue = await freshQueue(gateway)
    assert.equal((await publish(queue, [{ payload: 'one' }])).published, 1)
    const many = Array.from({ length: 10_000 }, (_, n) => ({ payload: n }))
    const { published, results } = await publish(queue, many)
    assert.equal(published, 10_000)
    assert.deepEqual(
      results.map(({ index }) => index),
      many.map((_, n) => n),
    )
    assert.equal(await count(queue), 10_001)
    const refused = await gateway
      .post(`/queues/${queue}/messages/batch`)
      .send({ messages: [...many, { payload: 'one too many' }] })
      .expect(400)
    assert.equal(refused.body.code, 'invalid_request')
    assert.equal(await count(queue), 10_001)
  })

  it('an invalid message in a batch fails alone and its result names the place', async () => {
    const queue = await freshQueue(gateway)
    const bad: [message: unknown, pointer: string | undefined, code?: string][] = [
      [{}, '/payload'],
      [5, ''],
      [null, ''],
      [[], ''],
      [{ payload: 1, nonsense: 2 }, '/nonsense'],
      [{ payload: 1, vhost: 'elsewhere' }, '/vhost'],
      [{ payload: 1, payload_encoding: 'string' }, '/payload'],
      [{ payload: 'not base64!', payload_encoding: 'base64' }, '/payload'],
      [{ payload: 'x', payload_encoding: 'hex' }, '/payload_encoding'],
      [{ payload: 'x', payload_encoding: null }, '/payload_encoding'],
      [JSON.parse('{"payload": 1, "__proto__": {"id": "x"}}'), '/__proto__'],
      [{ payload: 'x', properties: JSON.parse('{"__proto__": {"priority": 1}}') }, '/properties/__proto__'],
      [{ payload: 'x', properties: { message_id: null } }, '/properties/message_id'],
      [{ payload: '\ud800' }, '/payload'],
      [{ payload: 'x', id: 5 }, '/id'],
      [{ payload: 'x', id: 'x'.repeat(256) }, '/id'],
      [{ payload: 'x', routing_key: queue }, '/routing_key'],
      [{ payload: 'x', properties: [] }, '/properties'],
      [{ payload: 'x', properties: { nonsense: 1 } }, '/properties/nonsense'],
      [{ payload: 'x', properties: { priority: 256 } }, '/properties/priority'],
      [{ payload: 'x', properties: { priority: '3' } }, '/properties/priority'],
      [{ payload: 'x', properties: { expiration: 5 } }, '/properties/expiration'],
      [{ payload: 'x', properties: { expiration: '-1' } }, '/properties/expiration'],
      [{ payload: 'x', properties: { delivery_mode: 3 } }, '/properties/delivery_mode'],
      [{ payload: 'x', properties: { user_id: 'somebody' } }, '/properties/user_id'],
      [{ payload: 'x', properties: { reply_to: 'amq.rabbitmq.reply-to' } }, '/properties/reply_to'],
      [{ payload: 'x', properties: { headers: { CC: 'x' } } }, '/properties/headers/CC'],
      [{ payload: 'x', properties: { headers: { x: { amqp_type: 'int9', value: 1 } } } }, '/properties/headers/x'],
      [{ payload: 'x'.repeat(1024 * 1024 + 1) }, undefined, 'message_too_large'],
    ]
    const mixed = bad.flatMap(([message]) => [message, { payload: 'good' }])
    const { published, failed, results } = await publish(queue, mixed)
    assert.deepEqual([published, failed], [bad.length, bad.length])
    for (const [n, [message, pointer, code = 'invalid_message']] of bad.entries()) {
      const { index, status, problem } = results[2 * n]!
      const what = JSON.stringify(message).slice(0, 200)
      assert.deepEqual([index, status, problem?.code], [2 * n, 'invalid', code], what)
      if (pointer !== undefined)
        assert.deepEqual(
          problem?.errors?.map((error) => error.pointer),
          [pointer],
          what,
        )
      assert.equal(results[2 * n + 1]!.status, 'confirmed')
    }
    assert.equal(await count(queue), bad.length)
  })

  it('the result of an invalid message carries its id', async () => {
    const queue = await freshQueue(gateway)
    const large = 'x'.repeat(1024 * 1024 + 1)
    const { results } = await publish(queue, [
      { id: 'a' },
      { id: 5, payload: 1 },
      { id: 'c', payload: large },
      { id: 'd', payload: 1 },
    ])
    assert.deepEqual(
      results.map(({ id, status }) => [id, status]),
      [
        ['a', 'invalid'],
        [undefined, 'invalid'],
        ['c', 'invalid'],
        ['d', 'confirmed'],
      ],
    )
  })

  it('the last of two JSON members with the same name wins', async () => {
    const queue = await freshQueue(gateway)
    const twice = '{"payload": 1, "properties": {"type": "a"}, "payload": 2, "properties": {"priority": 1, "priority": 2}}'
    const { body } = await gateway
      .post(`/queues/${queue}/messages/batch`)
      .type('application/json')
      .send(`{"messages": [], "messages": [${twice}]}`)
      .expect(200)
    assert.equal(body.published, 1)
    const [{ payload, properties }] = (await receive(queue)) as [Awaited<ReturnType<typeof receive>>[0]]
    assert.deepEqual([payload, properties['priority'], properties['type']], [2, 2, undefined])
  })

  it('messages with the same message_id get separate results', async () => {
    const queue = await freshQueue(gateway)
    const properties = { message_id: 'same' }
    const { body } = await gateway
      .post(`/exchanges/amq.default/messages/batch?routing_key=${queue}`)
      .send({
        messages: [
          { payload: 0, properties },
          { payload: 1, properties, routing_key: freshName() },
          { payload: 2, properties },
          { payload: 3, properties, routing_key: '' },
        ],
      })
      .expect(200)
    assert.deepEqual(
      body.results.map(({ status, message_id, problem }: Result) => [status, message_id, problem?.code]),
      [
        ['confirmed', 'same', undefined],
        ['unroutable', 'same', 'queue_not_found'],
        ['confirmed', 'same', undefined],
        ['unroutable', 'same', 'queue_not_found'],
      ],
    )
    assert.deepEqual(
      (await receive(queue)).map(({ payload }) => payload),
      [0, 2],
    )
  })

  it('a payload may be nested 100,000 levels deep, headers and ids may not', async () => {
    const queue = await freshQueue(gateway)
    const deep = '['.repeat(100_000) + ']'.repeat(100_000)
    const messages = [
      `{"payload": ${deep}}`,
      `{"payload": 1, "properties": {"headers": {"x": ${deep}}}}`,
      `{"payload": 1, "id": ${deep}}`,
    ]
    const { body } = await gateway
      .post(`/queues/${queue}/messages/batch`)
      .type('application/json')
      .send(`{"messages": [${messages}]}`)
      .expect(200)
    assert.deepEqual(
      body.results.map(({ status }: Result) => status),
      ['confirmed', 'invalid', 'invalid'],
    )
    const { text } = await rawClient(gateway.url).send({ method: 'get', path: `/queues/${queue}/messages?ack=auto&format=raw` })
    assert.equal(text, deep)
  })

  it('a batch larger than PUBLISH_BUFFER is published completely', async () => {
    const queue = await freshQueue(gateway)
    const { published, failed } = await publish(
      queue,
      Array.from({ length: 8 }, () => ({ payload: '漢'.repeat(300_000) })),
    )
    assert.deepEqual([published, failed], [8, 0])
  })

  it('a message of exactly MAX_MESSAGE_SIZE in a batch is confirmed and one byte more is invalid', async () => {
    const queue = await freshQueue(gateway)
    const { results } = await publish(queue, [{ payload: 'x'.repeat(1024 * 1024) }, { payload: 'x'.repeat(1024 * 1024 + 1) }])
    assert.deepEqual(
      results.map(({ status }) => status),
      ['confirmed', 'invalid'],
    )
  })

  it('a malformed or oversized batch is refused as a whole and publishes nothing', async () => {
    const queue = await freshQueue(gateway)
    const path = `/queues/${queue}/messages/batch`
    const bad = ['', '{', 'null', '5', '"x"', '[]', '{}', '{"messages": {}}', '{"messages": []}', '{"messages": null}']
    bad.push('{"messages": [{"payload": 1}], "more": 1}', '[{"payload": 1}]', '{"messages": [{"payload": 1},]}')
    for (const body of bad) {
      const { body: problem } = await gateway.post(path).type('application/json').send(body).expect(400)
      assert.equal(problem.code, 'invalid_request', body)
    }
    const broken = Buffer.concat([Buffer.from('{"messages": [{"payload": "'), Buffer.of(0xff), Buffer.from('"}]}')])
    const client = rawClient(gateway.url)
    const { status, body: problem } = await client.send({
      method: 'post',
      path,
      headers: { 'content-type': 'application/json' },
      body: broken,
    })
    assert.deepEqual([status, (problem as { code: string }).code], [400, 'invalid_request'])
    client.close()
    await gateway.post(path).type('text/plain').send('x').expect(415)
    await gateway
      .post(`${path}?nonsense=1`)
      .send({ messages: [{ payload: 1 }] })
      .expect(400)
    const large = { messages: Array.from({ length: 9 }, () => ({ payload: 'x'.repeat(1024 * 1024) })) }
    assert.equal((await gateway.post(path).send(large).expect(413)).body.code, 'message_too_large')
    assert.equal(await count(queue), 0)
  })

  it('a batch to a missing queue, exchange or vhost is answered with 404', async () => {
    const messages = [{ payload: 1 }]
    const missing = freshName()
    assert.equal(
      (await gateway.post(`/queues/${missing}/messages/batch`).send({ messages }).expect(404)).body.code,
      'queue_not_found',
    )
    assert.equal(
      (await gateway.post(`/exchanges/${missing}/messages/batch`).send({ messages }).expect(404)).body.code,
      'exchange_not_found',
    )
    assert.equal(
      (await gateway.post(`/vhosts/${missing}/queues/x/messages/batch`).send({ messages }).expect(404)).body.code,
      'vhost_not_found',
    )
  })

  it('a batch to an exchange routes each message by its own key and reports unroutable ones', async () => {
    const queue = await freshQueue(gateway)
    const exchange = freshName('exchange')
    await gateway.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    gateway.cleanups.push(async () => gateway.delete(`/exchanges/${exchange}`))
    await gateway.put(`/exchanges/${exchange}/bindings/queues/${queue}?routing_key=*.error`).expect(204)
    const { body } = await gateway
      .post(`/exchanges/${exchange}/messages/batch?routing_key=disk.error`)
      .send({
        messages: [
          { payload: 'by the query' },
          { payload: 'its own', routing_key: 'net.error' },
          { payload: 'nowhere', routing_key: 'net.info' },
          { payload: 'no key', routing_key: 5 },
        ],
      })
      .expect(200)
    assert.deepEqual(
      (body.results as Result[]).map(({ status }) => status),
      ['confirmed', 'confirmed', 'unroutable', 'invalid'],
    )
    assert.deepEqual([body.published, body.failed], [2, 2])
    assert.equal(body.results[2].problem.code, 'unroutable')
    assert.deepEqual(
      (await receive(queue)).map(({ payload, routing_key }) => [payload, routing_key]),
      [
        ['by the query', 'disk.error'],
        ['its own', 'net.error'],
      ],
    )
  })

  it('a batch goes to the vhost in the path', async () => {
    const queue = await freshQueue(gateway)
    const vhost = encodeURIComponent(gateway.app.services.vhosts.defaultName)
    const { body } = await gateway
      .post(`/vhosts/${vhost}/queues/${queue}/messages/batch`)
      .send({ messages: [{ payload: 1 }] })
      .expect(200)
    assert.equal(body.published, 1)
    assert.equal(await count(queue), 1)
  })

  it('a batch reports the messages that a full queue rejected', async () => {
    const queue = await freshQueue(gateway, { arguments: { 'x-max-length': 3, 'x-overflow': 'reject-publish' } })
    const { published, failed, results } = await publish(
      queue,
      Array.from({ length: 8 }, (_, n) => ({ payload: n })),
    )
    assert.equal(published + failed, 8)
    assert.ok(failed > 0)
    for (const { status, problem } of results) {
      if (status === 'confirmed') assert.equal(problem, undefined)
      else assert.deepEqual([status, problem?.code], ['rejected', 'publish_rejected'])
    }
    assert.equal(await count(queue), published)
  })
})

describe('batch metrics', () => {
  it('the metrics count the messages of batches by status and the open batches', async () => {
    const queue = await freshQueue(gateway)
    const read = async () => {
      const { text } = await gateway.get('/metrics').expect(200)
      const value = (line: string) =>
        Number(
          text
            .split('\n')
            .find((one) => one.startsWith(`${line} `))
            ?.split(' ')[1] ?? 0,
        )
      return {
        published: value('gateway_publishes_total{outcome="confirmed"}'),
        confirmed: value('gateway_batch_messages_total{status="confirmed"}'),
        invalid: value('gateway_batch_messages_total{status="invalid"}'),
        open: value('gateway_batches_open'),
      }
    }
    const before = await read()
    assert.ok(before.published > 0 && before.confirmed > 0)
    await publish(queue, [{ payload: 1 }, { payload: 2 }, {}])
    await gateway.post(`/queues/${queue}/messages/batch`).send({ messages: [] }).expect(400)
    await gateway.post(`/queues/${freshName()}/messages/batch`).send({ messages: [] }).expect(404)
    const { published, confirmed, invalid } = before
    assert.deepEqual(await read(), { published: published + 2, confirmed: confirmed + 2, invalid: invalid + 1, open: 0 })
    const upload = openUpload(`${gateway.url}/queues/${queue}/messages/batch`)
    upload.outgoing.write('{"payload": 3}\n')
    await upload.until(1)
    assert.equal((await read()).open, 1)
    upload.outgoing.end()
    await upload.whole()
    await eventually(async () => assert.equal((await read()).open, 0))
  })
})
