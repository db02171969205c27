// Invalid input in a path, a query or a JSON body: the gateway answers with a 4xx problem that names the place.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { allConnections, brokerConnections, get, post, postJson, put, refusals, remove } from '../support/expect-refused.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import type { RawRequest } from '../support/http.js'

const gateway = await startGateway()
const { refused, send } = refusals(gateway)
const queue = await freshQueue(gateway)
const MESSAGES = `/queues/${queue}/messages`
const before = await allConnections()

const MiB = 1024 * 1024

describe('invalid JSON bodies', () => {
  it('a body that is not JSON is refused with 400', async () => {
    for (const body of [
      '{',
      'nonsense',
      '{"durable": tru}',
      '{"a":1}}',
      '[1,]',
      "{'a':1}",
      '\u0000',
      '{"arguments":{"a":NaN}}',
    ]) {
      await refused(put(`/queues/${freshName()}`, body), 400, 'invalid_request', '/body')
    }
    await refused(put(`/queues/${freshName()}`, '['.repeat(5000)), 400, 'invalid_request', '/body')
  })

  it('a member of the wrong type is refused with 400 and named', async () => {
    for (const body of ['[]', '1', '"x"', 'null', 'true']) {
      await refused(put(`/queues/${freshName()}`, body), 400, 'invalid_request')
    }
    const wrong: [body: object, pointer: string][] = [
      [{ durable: 'yes' }, '/body/durable'],
      [{ durable: 1 }, '/body/durable'],
      [{ type: 'mirrored' }, '/body/type'],
      [{ auto_delete: null }, '/body/auto_delete'],
      [{ arguments: [] }, '/body/arguments'],
      [{ arguments: 'x' }, '/body/arguments'],
    ]
    for (const [body, pointer] of wrong)
      await refused(put(`/queues/${freshName()}`, JSON.stringify(body)), 400, 'invalid_request', pointer)
    await refused(put(`/exchanges/${freshName()}`, '{}'), 400, 'invalid_request', '/body/type')
    await refused(put(`/exchanges/${freshName()}`), 400, 'invalid_request', '/body/type')
    await refused(put(`/exchanges/${freshName()}`, '{"type": ""}'), 400, 'invalid_request', '/body/type')
    await refused(postJson('/leases/settle', '{"ack": "x"}'), 400, 'invalid_request', '/body/ack')
    await refused(postJson('/leases/settle', '{"ack": [1]}'), 400, 'invalid_request', '/body/ack/0')
    await refused(postJson('/leases/settle', '{"nack": [{}]}'), 400, 'invalid_request', '/body/nack/0/id')
    await refused(postJson('/leases/x/extend', '{"lease": true}'), 400, 'invalid_request', '/body/lease')
    await refused(postJson('/leases/x/extend', '{"lease": -1}'), 400, 'invalid_request', '/body/lease')
    await refused(postJson('/leases/x/extend', '{"lease": "soon"}'), 400, 'invalid_request', '/body/lease')
  })

  it('an unknown member is refused with 400 and named', async () => {
    await refused(put(`/queues/${freshName()}`, '{"exclusive": true}'), 400, 'invalid_request', '/body/exclusive')
    await refused(put(`/queues/${freshName()}`, '{"a/b~c": true}'), 400, 'invalid_request', '/body/a~1b~0c')
    await refused(put(`/queues/${freshName()}`, '{"__proto__": {"durable": false}}'), 400, 'invalid_request', '/body/__proto__')
    await refused(postJson('/leases/x/ack', '{"requeue": true}'), 400, 'invalid_request', '/body/requeue')
    await refused(postJson('/leases/settle', '{"nack": [{"id": "x", "more": 1}]}'), 400, 'invalid_request', '/body/nack/0/more')
  })

  it('a body of another content type is refused with 415, and a missing body counts as empty', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/xml', 'text/json', 'nonsense', ';']) {
      await refused(put(`/queues/${freshName()}`, '{}', { 'content-type': type }), 415, 'unsupported_media_type')
    }
    await refused(put(`/queues/${freshName()}`, '{}', {}), 415, 'unsupported_media_type')
    await gateway.put(`/queues/${queue}`).expect(200)
  })

  it('a JSON body above the size limit is refused with 413', async () => {
    await refused(put(`/queues/${freshName()}`, `{"arguments":{"a":"${'x'.repeat(2 * MiB)}"}}`), 413, 'message_too_large')
  })

  it('arguments that AMQP cannot encode are refused with 400 and named', async () => {
    const deep = (levels: number): string => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`
    const wrong: [json: string, pointer: string | undefined][] = [
      ['{"a": 1e999}', '/body/arguments/a'],
      ['{"a": [1, -1e999]}', '/body/arguments/a/1'],
      ['{"!": "int8", "value": 1000}', '/body/arguments/!'],
      ['{"a": {"!": "nope"}}', '/body/arguments/a/!'],
      ['{"a": {"amqp_type": "nope"}}', '/body/arguments/a'],
      ['{"a": "\\ud800"}', '/body/arguments/a'],
      [`{"${'k'.repeat(129)}": 1}`, `/body/arguments/${'k'.repeat(64)}`],
      [`{"a": "${'x'.repeat(70 * 1024)}"}`, '/body/arguments'],
      [deep(5000), undefined],
      [`{"a": ${'['.repeat(5000)}${']'.repeat(5000)}}`, undefined],
      [`{"a": [${'1e999,'.repeat(10_000)}1]}`, '/body/arguments/a/0'],
    ]
    for (const [json, pointer] of wrong) {
      await refused(put(`/queues/${freshName()}`, `{"arguments": ${json}}`), 400, 'invalid_request', pointer)
      await refused(put(`/exchanges/${freshName()}`, `{"type": "topic", "arguments": ${json}}`), 400, 'invalid_request', pointer)
    }
    const binding = `/exchanges/amq.headers/bindings/queues/${queue}`
    for (const json of ['', '{', '[]', '1', '{"!": 1}', '{"a": 1e999}']) {
      await refused(put(`${binding}?arguments=${encodeURIComponent(json)}`), 400, 'invalid_request')
    }
  })

  it('arguments that RabbitMQ rejects are refused with 400 or 409', async () => {
    const arguments_: object[] = [
      { 'x-max-length': 'many' },
      { 'x-max-length': -1 },
      { 'x-message-ttl': 1.5 },
      { 'x-expires': 0 },
      { 'x-max-priority': 1e9 },
      { 'x-queue-type': 'nope' },
      { 'x-queue-type': 5 },
      { 'x-overflow': 'everywhere' },
      { 'x-dead-letter-exchange': 1 },
      { 'x-dead-letter-routing-key': 'a' },
    ]
    for (const json of arguments_) {
      const { status, text } = await send(put(`/queues/${freshName()}`, JSON.stringify({ arguments: json })))
      assert.ok(status === 400 || status === 409, `${JSON.stringify(json)} -> ${status} ${text}`)
    }
  })

  it('arguments that crash RabbitMQ cause no 5xx and close no shared connection', async () => {
    const breaking: object[] = [
      ...[34_051, true, 'nobody', '', {}].map((value) => ({ 'x-queue-master-locator': value })),
      ...[34_051, true, 'nobody', ''].map((value) => ({ 'x-queue-leader-locator': value })),
      ...[2 ** 50 + 0.5, -1e300, 1e300, 2 ** 53].map((value) => ({ 'x-anything': value })),
      ...['', 'x', '9999999999999Y'].map((value) => ({ 'x-queue-type': 'stream', 'x-max-age': value })),
    ]
    for (const json of breaking) {
      const queue = freshName()
      const { status, text } = await send(put(`/queues/${queue}`, JSON.stringify({ arguments: json })))
      assert.ok(status < 500, `${JSON.stringify(json)} -> ${status} ${text}`)
      if (status < 300) await gateway.delete(`/queues/${queue}`).expect(204)
    }
    assert.ok((await brokerConnections()).includes(before.find((name) => name.endsWith(' admin'))!))
  })
})

describe('names in the path', () => {
  const everywhere = (name: string): RawRequest[] => [
    get(`/queues/${name}`),
    put(`/queues/${name}`),
    remove(`/queues/${name}`),
    get(`/queues/${name}/messages`),
    post(`/queues/${name}/messages`, 'x'),
    remove(`/queues/${name}/messages`),
    get(`/exchanges/${name}`),
    put(`/exchanges/${name}`, '{"type":"topic"}'),
    remove(`/exchanges/${name}`),
    post(`/exchanges/${name}/messages`, 'x'),
    put(`/exchanges/amq.topic/bindings/queues/${name}`),
    put(`/exchanges/amq.topic/bindings/exchanges/${name}`),
    put(`/exchanges/${name}/bindings/queues/${queue}`),
    remove(`/exchanges/${name}/bindings/queues/${queue}`),
    get(`/vhosts/${name}/queues/${queue}`),
    post(`/vhosts/${name}/queues/${queue}/messages`, 'x'),
  ]

  it('a name that is empty, above 255 bytes, not UTF-8 or has a control character is refused with 400', async () => {
    const bad = ['x'.repeat(256), encodeURIComponent('ü'.repeat(128)), encodeURIComponent('🐇'.repeat(64)), 'x'.repeat(16_000)]
    bad.push('%00', 'a%0Ab', 'a%0D%0Aset-cookie:b', '%7F', '%1f', '', '%zz', '%', '%e0%a4%a', '%ff', '%ed%a0%80')
    for (const name of bad) {
      for (const request of everywhere(name)) await refused(request, 400, 'invalid_request')
    }
    await refused(get(`/queues/${'x'.repeat(256)}`), 400, 'invalid_request', '/path/queue')
    await refused(get('/exchanges/%00'), 400, 'invalid_request', '/path/exchange')
    await refused(get('/vhosts/%00/queues/q'), 400, 'invalid_request', '/path/vhost')
    await refused(put('/exchanges/amq.topic/bindings/exchanges/%01'), 400, 'invalid_request', '/path/destination')
  })

  it('a name of 255 bytes works with any printable characters', async () => {
    const tail = freshName()
    for (const head of ['x', '🐇ü/?#%&+ .', '../', '\'"\\<>|`']) {
      const name = `${head}${tail}`
      const padded = encodeURIComponent(name + '~'.repeat(255 - Buffer.byteLength(name)))
      await refused(get(`/queues/${padded}/messages`), 404, 'queue_not_found')
      await refused(get(`/queues/${padded}/stream`), 404, 'queue_not_found')
      await refused(post(`/exchanges/${padded}/messages`, 'x'), 404, 'exchange_not_found')
      await refused(post(`/exchanges/${padded}/rpc`, 'x'), 404, 'exchange_not_found')
      await gateway.put(`/queues/${padded}`).expect(201)
      await gateway.post(`/queues/${padded}/messages`).type('text/plain').send(head).expect(201)
      const { body } = await gateway.get(`/queues/${padded}/messages?ack=auto`).expect(200)
      assert.equal(body.messages[0].payload, head)
      assert.equal(body.messages[0].routing_key, decodeURIComponent(padded))
      await gateway.delete(`/queues/${padded}`).expect(204)
    }
  })

  it('a path with dots never leads to another resource', async () => {
    for (const path of ['/queues/..', '/queues/%2e%2e', '/queues/.']) await refused(get(path), 404, 'queue_not_found')
    for (const path of ['/queues/../health/live', '/queues/../../etc/passwd', '//etc/passwd', '/docs/../../package.json']) {
      await refused(get(path), 404, 'not_found')
    }
    for (const path of ['/docs/static/..%2f..%2fpackage.json', '/docs/static/%2e%2e/%2e%2e/package.json']) {
      const { status, text } = await send(get(path))
      assert.ok((status === 404 || status === 400) && !text.includes('fastify'), `${path} -> ${status} ${text}`)
    }
  })

  it('queues and exchanges with names reserved by RabbitMQ cannot be declared, deleted or bound', async () => {
    await refused(put('/queues/amq.mine'), 403, 'access_refused')
    await refused(put('/exchanges/amq.mine', '{"type":"topic"}'), 403, 'access_refused')
    await refused(put('/exchanges/amq.default', '{"type":"direct"}'), 403, 'access_refused')
    await refused(remove('/exchanges/amq.default'), 403, 'access_refused')
    await refused(remove('/exchanges/amq.topic'), 403, 'access_refused')
    await refused(put(`/exchanges/amq.default/bindings/queues/${queue}`), 403, 'access_refused')
  })

  it('an unknown exchange type is refused with 400', async () => {
    for (const type of ['nope', 'x-delayed-message', 'ü\u0000', 'x'.repeat(101), 5, null]) {
      await refused(put(`/exchanges/${freshName()}`, JSON.stringify({ type })), 400, 'invalid_request')
    }
  })
})

describe('query parameters', () => {
  it('an unknown or misspelt parameter is refused with 400 and named', async () => {
    const requests = [get(MESSAGES), post(MESSAGES), get(`/queues/${queue}`), remove(`/queues/${queue}`)]
    requests.push(post('/exchanges/amq.topic/messages'), get('/leases/x'), put(`/queues/${queue}`), get('/health/live'))
    for (const request of requests) {
      await refused({ ...request, path: `${request.path}?wiat=5s` }, 400, 'invalid_request', '/query/wiat')
    }
  })

  it('a parameter with an invalid or out-of-bounds value is refused with 400 and named', async () => {
    const bad: Record<string, string[]> = {
      max: ['0', '1001', '1.5', 'abc', '-1', '', '1e3x', 'null', '99999999999999999999'],
      wait: ['61s', '60001ms', '-1', 'abc', '1h', '', '1 s', '1e3', 'Infinity', '9'.repeat(30)],
      lease: ['0', '0s', '26m', '999ms', '-30s', 'forever', '', '1d'],
      ack: ['yes', '', 'MANUAL', 'true'],
      encoding: ['utf8', ''],
      format: ['xml', ''],
      confirm: [],
    }
    for (const [name, values] of Object.entries(bad)) {
      for (const value of values) {
        await refused(get(`${MESSAGES}?${name}=${encodeURIComponent(value)}`), 400, 'invalid_request', `/query/${name}`)
      }
    }
    for (const value of ['maybe', '', '2', 'TRUE']) {
      await refused(post(`${MESSAGES}?confirm=${value}`), 400, 'invalid_request', '/query/confirm')
      await refused(post(`/exchanges/amq.topic/messages?mandatory=${value}`), 400, 'invalid_request', '/query/mandatory')
      await refused(remove(`/queues/${queue}?if_empty=${value}`), 400, 'invalid_request', '/query/if_empty')
    }
    for (const key of ['x'.repeat(256), '%00', '%0a', encodeURIComponent('ü'.repeat(128))]) {
      await refused(post(`/exchanges/amq.topic/messages?routing_key=${key}`), 400, 'invalid_request', '/query/routing_key')
    }
  })

  it('a repeated parameter is refused with 400 and named', async () => {
    await refused(get(`${MESSAGES}?max=1&max=2`), 400, 'invalid_request', '/query/max')
    await refused(get(`${MESSAGES}?ack=auto&ack=auto`), 400, 'invalid_request', '/query/ack')
    await refused(post('/exchanges/amq.topic/messages?routing_key=a&routing_key=b'), 400, 'invalid_request', '/query/routing_key')
  })

  it('a receive of several raw messages is refused with 400', async () => {
    await refused(get(`${MESSAGES}?format=raw&max=2`), 400, 'invalid_request', '/query/max')
    const accept = { accept: 'application/octet-stream' }
    await refused({ ...get(`${MESSAGES}?max=2`), headers: accept }, 400, 'invalid_request', '/query/max')
  })
})

describe('requests', () => {
  it('an unknown path is answered with 404', async () => {
    for (const path of [
      '/nope',
      '/queues',
      `/queues/${queue}/`,
      `/queues/a/b/c`,
      '/leases',
      '/leases/a/b/c',
      '/vhosts/x',
      '/Health/live',
      '/favicon.ico',
      `/${'x'.repeat(5000)}`,
    ]) {
      await refused(get(path), 404, 'not_found')
    }
  })

  it('an unsupported method is answered with 405 and the supported ones in Allow', async () => {
    const methods: [method: string, path: string, allow: string][] = [
      ['patch', `/queues/${queue}`, 'PUT, GET, DELETE'],
      ['post', `/queues/${queue}`, 'PUT, GET, DELETE'],
      ['put', MESSAGES, 'POST, GET, DELETE'],
      ['options', MESSAGES, 'POST, GET, DELETE'],
      ['propfind', MESSAGES, 'POST, GET, DELETE'],
      ['get', '/leases/x/ack', 'POST'],
      ['get', `/exchanges/x/messages`, 'POST'],
      ['patch', `/vhosts/%2F/queues/${queue}`, 'PUT, GET, DELETE'],
      ['delete', '/health/live', 'GET, HEAD'],
    ]
    for (const [method, path, allow] of methods) {
      const { headers } = await send({ method, path })
      assert.deepEqual(headers['allow']?.split(', ').sort(), allow.split(', ').sort(), `${method} ${path}`)
      await refused({ method, path }, 405, 'method_not_allowed')
    }
  })

  it('HEAD on messages is answered with 405 and receives nothing', async () => {
    await gateway.post(MESSAGES).send('x').expect(201)
    const response = await fetch(gateway.url + MESSAGES, { method: 'HEAD' })
    assert.equal(response.status, 405)
    assert.ok(response.headers.get('allow')?.includes('GET'))
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 1))
    await gateway.delete(MESSAGES).expect(200)
  })

  it('a valid X-Request-Id is echoed and an invalid one replaced', async () => {
    for (const id of ['a', 'Order_1.2-3', 'x'.repeat(128)]) {
      const { headers } = await send({ ...get('/health/live'), headers: { 'x-request-id': id } })
      assert.equal(headers['x-request-id'], id)
    }
    for (const id of ['', 'x'.repeat(129), 'a b', 'a\tb', 'é', '<script>', 'a,b']) {
      const { headers } = await send({ ...get('/health/live'), headers: { 'x-request-id': id } })
      assert.match(String(headers['x-request-id']), /^[0-9a-f-]{36}$/)
    }
  })

  it('a tampered or unknown lease id is answered with 404, and too many ids with 400', async () => {
    await gateway.post(MESSAGES).send('x').expect(201)
    const { body } = await gateway.get(MESSAGES).expect(200)
    const { id } = body.messages[0].lease as { id: string }
    const tampered = [
      `${id.slice(0, -1)}${id.endsWith('A') ? 'B' : 'A'}`,
      `${id}A`,
      id.slice(1),
      'A',
      randomUUID(),
      '%00',
      '..',
      '',
      'x'.repeat(10_000),
    ]
    tampered.push(`${id.slice(0, 10)}${id[10] === 'A' ? 'B' : 'A'}${id.slice(11)}`)
    for (const wrong of tampered) {
      await refused(get(`/leases/${wrong}`), 404, 'lease_not_found')
      for (const call of ['ack', 'nack', 'extend']) await refused(post(`/leases/${wrong}/${call}`), 404, 'lease_not_found')
    }
    await refused(get(`/vhosts/another/leases/${id}`), 404, 'lease_not_found')
    const many = await gateway.post('/leases/settle').send({ ack: tampered }).expect(200)
    assert.equal(many.body.failed, tampered.length)
    await gateway.post(`/leases/${id}/ack`).expect(204)
    const ids = Array.from({ length: 400 }, () => id)
    const all = { ack: ids, nack: ids.map((id) => ({ id })), extend: ids.map((id) => ({ id })) }
    await refused(postJson('/leases/settle', JSON.stringify(all)), 400, 'invalid_request', '/body')
    const ack = Array.from({ length: 1001 }, () => id)
    await refused(postJson('/leases/settle', JSON.stringify({ ack })), 400, 'invalid_request', '/body/ack')
  })
})

describe('broker connections after invalid input', () => {
  it('the gateway still has its first broker connections and passes a message on', async () => {
    await eventually(async () => assert.deepEqual(await brokerConnections(), before))
    await gateway.post(MESSAGES).type('text/plain').send('still here').expect(201)
    const { body } = await gateway.get(`${MESSAGES}?ack=auto`).expect(200)
    assert.equal(body.messages[0].payload, 'still here')
  })
})
