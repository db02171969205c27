// What HTTP clients do by habit, and what HTTP says about it: media types, empty bodies, bodies where none belongs, content
// codings, byte order marks, percent-encoding, and requests that Node.js would refuse by itself.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { get, post, put, refusals, remove } from '../support/expect-refused.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import { overSocket, type RawRequest } from '../support/http.js'

const gateway = await startGateway({ MAX_MESSAGE_SIZE: '1MiB' })
const { refused, send } = refusals(gateway)
const queue = await freshQueue(gateway)
const MESSAGES = `/queues/${queue}/messages`

async function accepted(request: RawRequest, status: number): Promise<unknown> {
  const response = await send(request)
  assert.equal(response.status, status, `${request.method} ${request.path} ${JSON.stringify(request.headers)}: ${response.text}`)
  return response.body
}
const typed = (request: RawRequest, type: string): RawRequest => ({
  ...request,
  headers: { ...request.headers, 'content-type': type },
})
const messageCount = async (name: string): Promise<number> =>
  (await gateway.get(`/queues/${name}`).expect(200)).body.message_count
const received = async (name = queue) =>
  (await gateway.get(`/queues/${name}/messages?ack=auto&wait=5s`).expect(200)).body.messages[0]

/** A request of every kind that takes a JSON body, with a body that it accepts, and the status of success. */
async function jsonCalls(): Promise<[RawRequest, number][]> {
  await gateway
    .post(`${MESSAGES}/batch`)
    .send({ messages: [{ payload: 1 }, { payload: 2 }, { payload: 3 }] })
    .expect(200)
  const { messages } = (await gateway.get(`${MESSAGES}?max=3&wait=5s`).expect(200)).body
  const [extended, nacked, settled] = messages.map(({ lease }: { lease: { id: string } }) => lease.id)
  const name = freshName()
  const paused = { queue, url: 'https://example.com/', paused: true }
  return [
    [put(`/queues/${name}`, '{"durable": true}'), 201],
    [put(`/exchanges/${name}`, '{"type": "topic"}'), 201],
    [put(`/queues/${name}/retry-policy`, '{"max_deliveries": 3}'), 201],
    [put(`/subscriptions/${name}`, JSON.stringify(paused)), 201],
    [post(`/queues/${name}/redrive`, `{"to": "${queue}"}`), 202],
    [post(`/leases/${extended}/extend`, '{"lease": "20s"}'), 200],
    [post(`/leases/${extended}/ack`, '{}'), 204],
    [post(`/leases/${nacked}/nack`, '{"requeue": false}'), 204],
    [post('/leases/settle', `{"ack": ["${settled}"]}`), 200],
    [post(`${MESSAGES}/batch`, '{"messages": [{"payload": 1}]}'), 200],
    [remove(`/subscriptions/${name}`), 204],
    [remove(`/exchanges/${name}`), 204],
    [remove(`/queues/${name}`), 204],
  ]
}

describe('media types', () => {
  for (const type of ['application/json; charset=utf-8', 'Application/JSON;charset="UTF-8"', 'application/json ; x=y'])
    it(`every JSON call takes ${type}`, async () => {
      for (const [request, status] of await jsonCalls()) await accepted(typed(request, type), status)
    })

  it('a JSON call takes a type that is based on JSON', async () => {
    await accepted(typed(put(`/queues/${queue}`, '{}'), 'application/vnd.example+json'), 200)
  })

  it('a JSON body is read in the charset that its type names', async () => {
    const body = Buffer.from('{"arguments": {"x-hello": "gr\u00fc\u00dfe"}}', 'latin1')
    const name = freshName()
    await accepted(typed({ method: 'put', path: `/queues/${name}`, body }, 'application/json; charset=iso-8859-1'), 201)
    await accepted(put(`/queues/${name}`, '{"arguments": {"x-hello": "gr\u00fc\u00dfe"}}'), 200)
    await gateway.delete(`/queues/${name}`).expect(204)
    await refused(typed({ method: 'put', path: `/queues/${name}`, body }, 'application/json'), 400, 'invalid_request', '/body')
    await refused(typed(put(`/queues/${name}`, '{}'), 'application/json; charset=klingon'), 415, 'unsupported_media_type')
  })

  for (const type of ['application/x-ndjson', 'application/ndjson', 'application/jsonl', 'APPLICATION/X-NDJSON; charset=utf-8'])
    it(`a batch of lines may be called ${type}, going in and coming out`, async () => {
      const text = await accepted(typed(post(`${MESSAGES}/batch`, '{"payload": 1}\n{"payload": 2}\n'), type), 200)
      assert.deepEqual(JSON.parse(String(text).trim().split('\n').at(-1) ?? ''), { published: 2, failed: 0 })
      const stream = await send({ ...get(`/queues/${queue}/stream`), headers: { accept: type }, leave: true })
      assert.equal(stream.headers['content-type'], 'application/x-ndjson; charset=utf-8')
      await gateway.delete(MESSAGES)
    })

  it('the weights of an Accept header decide between the forms of an answer', async () => {
    await gateway.post(MESSAGES).type('text/plain').send('x').expect(201)
    const forms: [accept: string, type: string][] = [
      ['application/octet-stream', 'text/plain'],
      ['Application/Octet-Stream, */*;q=0.1', 'text/plain'],
      ['application/json;q=0.5, application/octet-stream', 'text/plain'],
      ['application/octet-stream;q=0.5, application/json', 'application/json; charset=utf-8'],
      ['application/octet-stream;q=0', 'application/json; charset=utf-8'],
      ['*/*', 'application/json; charset=utf-8'],
      ['text/html', 'application/json; charset=utf-8'],
    ]
    for (const [accept, type] of forms) {
      const { headers } = await send({ ...get(`${MESSAGES}?ack=requeue&wait=5s`), headers: { accept } })
      assert.equal(headers['content-type'], type, accept)
    }
    const streams: [accept: string, type: string][] = [
      ['text/event-stream, application/x-ndjson;q=0.5', 'text/event-stream'],
      ['text/event-stream;q=0.5, application/jsonl', 'application/x-ndjson'],
      ['*/*', 'text/event-stream'],
    ]
    for (const [accept, type] of streams) {
      const { headers } = await send({ ...get(`/queues/${queue}/stream`), headers: { accept }, leave: true })
      assert.equal(headers['content-type'], `${type}; charset=utf-8`, accept)
    }
    await gateway.delete(MESSAGES).expect(200)
  })
})

describe('empty bodies', () => {
  const TYPES = ['application/x-www-form-urlencoded', 'text/plain', 'application/octet-stream', 'application/json', 'nonsense']

  for (const type of TYPES)
    it(`an empty body is no body with the type ${type}, whether it has a length or is chunked`, async () => {
      for (const headers of [{ 'content-length': '0' }, { 'transfer-encoding': 'chunked' }]) {
        if (type === 'nonsense' && 'transfer-encoding' in headers) continue // no HTTP client sends both
        const call = (method: string, path: string): RawRequest => ({
          method,
          path,
          headers: { 'content-type': type, ...headers },
        })
        const name = freshName()
        await accepted(call('put', `/queues/${name}`), 201)
        await gateway.post(`/queues/${name}/messages`).send({ a: 1 }).expect(201)
        const take = async () => (await gateway.get(`/queues/${name}/messages?wait=5s`).expect(200)).body.messages[0].lease.id
        let lease = await take()
        await accepted(call('post', `/leases/${lease}/extend`), 200)
        await accepted(call('get', `/leases/${lease}`), 200)
        await accepted(call('post', `/leases/${lease}/nack`), 204)
        lease = await take()
        await accepted(call('post', `/leases/${lease}/ack`), 204)
        await accepted(call('put', `/queues/${name}/retry-policy`), 201)
        await accepted(call('put', `/exchanges/amq.topic/bindings/queues/${name}?routing_key=a`), 204)
        await accepted(call('delete', `/exchanges/amq.topic/bindings/queues/${name}?routing_key=a`), 204)
        await accepted(call('delete', `/queues/${name}`), 204)
      }
    })

  it('an empty message keeps the content type of its publisher', async () => {
    await accepted(typed(post(MESSAGES), 'text/csv'), 201)
    assert.equal((await received()).properties.content_type, 'text/csv')
  })
})

describe('bodies where none belongs', () => {
  it('every call without a body refuses one, and does nothing', async () => {
    const kept = await freshQueue(gateway)
    await gateway.post(`/queues/${kept}/messages`).send({ a: 1 }).expect(201)
    const calls: [method: string, path: string][] = [
      ['delete', `/queues/${kept}`],
      ['delete', `/queues/${kept}/messages`],
      ['delete', `/queues/${kept}/retry-policy`],
      ['get', `/queues/${kept}`],
      ['get', `/queues/${kept}/messages`],
      ['get', '/health/live'],
      ['get', '/leases/x'],
      ['put', `/exchanges/amq.topic/bindings/queues/${kept}`],
      ['delete', `/exchanges/amq.topic/bindings/queues/${kept}`],
      ['put', '/exchanges/amq.topic/bindings/exchanges/amq.fanout'],
      ['delete', '/exchanges/amq.topic'],
      ['delete', '/subscriptions/x'],
      ['get', '/redrives'],
    ]
    const body = '{"if_empty": true}'
    for (const [method, path] of calls) {
      for (const headers of [{ 'content-length': String(body.length) }, { 'transfer-encoding': 'chunked' }]) {
        for (const type of ['application/json', 'text/plain']) {
          const request = typed({ method, path, body, headers }, type)
          // A chunked body of another type is refused for its type, before it is known to have any bytes.
          if (type === 'text/plain' && 'transfer-encoding' in headers && method !== 'get') continue
          await refused(request, 400, 'invalid_request', '/body')
        }
      }
    }
    assert.equal(await messageCount(kept), 1)
  })

  it('the refusal names the query parameters of the call', async () => {
    const { detail } = await refused(
      typed({ ...remove(`/queues/${queue}`), body: '{}', headers: { 'content-length': '2' } }, 'application/json'),
      400,
      'invalid_request',
    )
    assert.match(detail, /query parameters \(if_unused, if_empty\)/)
  })
})

describe('content codings', () => {
  it('a coding that the gateway does not decode is refused with 415 and what it accepts', async () => {
    const lines = gzipSync('{"payload": 1}\n')
    const calls: [RawRequest, type: string][] = [
      [post(`${MESSAGES}/batch`, lines), 'application/x-ndjson'],
      [post(`${MESSAGES}/batch`, gzipSync('{"messages": [{"payload": 1}]}')), 'application/json'],
      [{ method: 'put', path: `/queues/${freshName()}`, body: gzipSync('{}') }, 'application/json'],
      [post('/leases/x/nack', gzipSync('{}')), 'application/json'],
    ]
    for (const [request, type] of calls) {
      for (const coding of ['gzip', 'br', 'GZIP', 'deflate, gzip']) {
        const encoded = { ...typed(request, type), headers: { 'content-type': type, 'content-encoding': coding } }
        await refused(encoded, 415, 'unsupported_media_type')
        assert.equal((await send(encoded)).headers['accept-encoding'], 'identity')
      }
    }
    assert.equal(await messageCount(queue), 0)
  })

  it('identity is no coding, and a message may have any', async () => {
    await accepted(put(`/queues/${queue}`, '{}', { 'content-type': 'application/json', 'content-encoding': 'identity' }), 200)
    await accepted(post(MESSAGES, gzipSync('x'), { 'content-encoding': 'gzip' }), 201)
    assert.equal((await received()).properties.content_encoding, 'gzip')
  })
})

describe('byte order marks', () => {
  const MARK = '\ufeff'

  it('a byte order mark before JSON is ignored in bodies, lines, headers and queries', async () => {
    await accepted(put(`/queues/${queue}`, `${MARK}{}`), 200)
    const json = { 'content-type': 'application/json' }
    await accepted(post(`${MESSAGES}/batch`, `${MARK}{"messages": [{"payload": 1}]}`, json), 200)
    const lines = await accepted(typed(post(`${MESSAGES}/batch`, `${MARK}{"payload": 2}\n`), 'application/x-ndjson'), 200)
    assert.match(String(lines), /"published":1,"failed":0/)
    const path = `/exchanges/amq.headers/bindings/queues/${queue}?arguments=${encodeURIComponent(`${MARK}{"x-match": "all"}`)}`
    await accepted(put(path), 204)
    await accepted(remove(path), 204)
    const header = Buffer.from(`${MARK}{"a": 1}`).toString('latin1')
    await accepted(post(MESSAGES, Buffer.from('3'), { 'amqp-headers': header }), 201)
    await gateway.delete(MESSAGES).expect(200)
  })

  it('a JSON message with a byte order mark is received as JSON, and raw as it was', async () => {
    const bytes = Buffer.from(`${MARK}{"a": 1}`)
    await accepted(post(MESSAGES, bytes, { 'content-type': 'application/json' }), 201)
    const raw = await send(get(`${MESSAGES}?format=raw&ack=requeue&wait=5s`))
    assert.equal(raw.text, bytes.toString())
    const message = await received()
    assert.deepEqual([message.payload, message.payload_encoding, message.payload_bytes], [{ a: 1 }, 'json', bytes.length])
  })
})

describe('queries', () => {
  it('a broken percent-encoding is refused with 400 and named', async () => {
    for (const broken of ['caf%E9', '%zz', '100%', '%', '%C3%28', '%ed%a0%80']) {
      const publish = post(`/exchanges/amq.topic/messages?routing_key=${broken}`, 'x')
      await refused(publish, 400, 'invalid_request', '/query/routing_key')
      const binding = put(`/exchanges/amq.topic/bindings/queues/${queue}?routing_key=${broken}`)
      await refused(binding, 400, 'invalid_request', '/query/routing_key')
    }
    await accepted(post('/exchanges/amq.topic/messages?routing_key=caf%C3%A9+100%25', 'x'), 201)
  })

  it('the plus sign of a time zone may stand in a query as it is', async () => {
    const stream = await freshQueue(gateway, { type: 'stream' })
    for (const time of ['2026-11-25T10:00:00+00:00', '2026-11-25T10:00:00%2B00:00', '2026-11-25T12:00:00.5+02:00']) {
      const { status } = await send({ ...get(`/queues/${stream}/stream?offset=${time}`), leave: true })
      assert.equal(status, 200, time)
    }
    await refused(get(`/queues/${stream}/stream?offset=2026-11-25T10:00:00+x`), 400, 'invalid_request', '/query/offset')
  })
})

describe('requests that break a rule of HTTP', () => {
  const answer = async (lines: string[], body = '') => {
    const text = await overSocket(gateway.url, `${lines.join('\r\n')}\r\nconnection: close\r\n\r\n${body}`)
    const [head = '', json = '{}'] = text.split('\r\n\r\n')
    return {
      status: Number(head.split(' ')[1]),
      id: /x-request-id: (.*)/i.exec(head)?.[1],
      type: head,
      problem: JSON.parse(json),
    }
  }
  const CASES: [what: string, status: number, lines: string[], body?: string][] = [
    ['without a host', 400, ['GET /health/live HTTP/1.1']],
    ['with two hosts', 400, ['GET /health/live HTTP/1.1', 'host: localhost', 'Host: b']],
    ['with an unknown expectation', 417, ['GET /health/live HTTP/1.1', 'host: localhost', 'expect: 200-ok']],
    [
      'with a transfer coding beside chunked',
      501,
      [`POST ${MESSAGES} HTTP/1.1`, 'host: localhost', 'transfer-encoding: gzip, chunked'],
      '0\r\n\r\n',
    ],
    ['with headers that are too large', 431, ['GET / HTTP/1.1', 'host: localhost', `x: ${'x'.repeat(200_000)}`]],
    ['without a colon in a header', 400, ['GET / HTTP/1.1', 'host a']],
  ]
  for (const [what, status, lines, body] of CASES)
    it(`a request ${what} is answered with ${status}, a problem and a request id`, async () => {
      const { status: got, id, type, problem } = await answer(lines, body)
      assert.equal(got, status)
      assert.match(type, /content-type: application\/problem\+json/i)
      assert.match(type, /cache-control: no-store/i)
      assert.deepEqual([problem.status, problem.code, problem.request_id], [status, 'invalid_request', id])
    })

  it('HTTP/1.0 needs no host, and 100-continue is understood', async () => {
    assert.equal((await answer(['GET /health/live HTTP/1.0'])).status, 200)
    const text = await overSocket(
      gateway.url,
      `POST ${MESSAGES} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-Continue\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx`,
    )
    assert.match(text, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 201/)
    await gateway.delete(MESSAGES).expect(200)
  })
})

describe('content_encoding that is no content coding', () => {
  for (const encoding of ['utf-8', 'UTF-8', 'binary'])
    it(`${encoding} is a header of its own, and the payload counts as not encoded`, async () => {
      for (const header of ['content-encoding', 'amqp-content-encoding']) {
        await accepted(post(MESSAGES, '{"a":1}', { 'content-type': 'application/json', [header]: encoding }), 201)
        const raw = await send(get(`${MESSAGES}?format=raw&ack=requeue&wait=5s`))
        assert.deepEqual([raw.headers['content-encoding'], raw.headers['amqp-content-encoding']], [undefined, encoding])
        const message = await received()
        assert.deepEqual([message.payload, message.payload_encoding], [{ a: 1 }, 'json'])
        assert.equal(message.properties.content_encoding, encoding)
      }
    })

  it('a coding of HTTP stays content-encoding, and two that contradict each other are refused', async () => {
    await accepted(post(MESSAGES, gzipSync('{}'), { 'content-type': 'application/json', 'amqp-content-encoding': 'gzip' }), 201)
    const raw = await fetch(`${gateway.url}${MESSAGES}?format=raw&ack=requeue&wait=5s`)
    assert.equal(await raw.text(), '{}')
    assert.equal((await received()).payload_encoding, 'base64')
    const both = { 'content-encoding': 'gzip', 'amqp-content-encoding': 'utf-8' }
    await refused(post(MESSAGES, 'x', both), 400, 'invalid_message')
    await accepted(post(MESSAGES, 'x', { 'content-encoding': 'utf-8', 'amqp-content-encoding': 'utf-8' }), 201)
    await gateway.delete(MESSAGES).expect(200)
  })
})
