// Messages that cannot be published, and bytes that are not HTTP: the gateway refuses both with a problem, and nothing breaks.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { catalogue } from '../../src/problems.js'
import { eventually } from '../support/eventually.js'
import { allConnections, brokerConnections, get, type ProblemBody, post, refusals } from '../support/expect-refused.js'
import { freshQueue, startGateway } from '../support/gateway.js'
import { overSocket } from '../support/http.js'

const gateway = await startGateway()
const { send, refused } = refusals(gateway)
const queue = await freshQueue(gateway)
const MESSAGES = `/queues/${queue}/messages`
const before = await allConnections()

const MiB = 1024 * 1024

describe('invalid messages', () => {
  it('a message with an invalid property is refused with 400 and the property named', async () => {
    const utf8 = (text: string) => Buffer.from(text).toString('latin1')
    const bad: [name: string, value: string, pointer?: string][] = [
      ...['', '-1', 'abc', '1.5', '4294967296', '30s', '1e3'].map((value): [string, string] => ['amqp-expiration', value]),
      ...['-1', '256', '1.5', 'high', ''].map((value): [string, string] => ['amqp-priority', value]),
      ...['0', '3', 'persistent', ''].map((value): [string, string] => ['amqp-delivery-mode', value]),
      ...['-5', '1.5', 'now', '18446744073709551616'].map((value): [string, string] => ['amqp-timestamp', value]),
      ...['somebody-else', ''].map((value): [string, string] => ['amqp-user-id', value]),
      ['amqp-reply-to', 'amq.rabbitmq.reply-to'],
      ...['amqp-message-id', 'amqp-correlation-id', 'amqp-reply-to', 'amqp-type', 'amqp-app-id'].flatMap(
        (name): [string, string][] => [
          [name, 'x'.repeat(256)],
          [name, utf8('ü'.repeat(128))],
        ],
      ),
      ['content-type', 'x'.repeat(256)],
      ['content-encoding', 'x'.repeat(256)],
      ['amqp-nonsense', 'x'],
      ...['', 'x', '[]', '{', 'null', '{"a":NaN}'].map((value): [string, string] => ['amqp-headers', value]),
      ['amqp-headers', '{"n": 1e999}', '/header/amqp-headers/n'],
      ['amqp-headers', '{"n": -1e999}', '/header/amqp-headers/n'],
      ['amqp-headers', '{"!": "int8", "value": 1}', '/header/amqp-headers/!'],
      ['amqp-headers', '{"x": {"!": "int8", "value": 1000}}', '/header/amqp-headers/x/!'],
      ['amqp-headers', '{"x": {"amqp_type": "int8", "value": 1}}', '/header/amqp-headers/x'],
      ['amqp-headers', '{"CC": "not-an-array"}', '/header/amqp-headers/CC'],
      ['amqp-headers', '{"BCC": [1, 2]}', '/header/amqp-headers/BCC'],
      ['amqp-headers', `{"${'k'.repeat(129)}": 1}`, `/header/amqp-headers/${'k'.repeat(64)}`],
      ['amqp-headers', JSON.stringify({ big: 'x'.repeat(70 * 1024) })],
      ['ce-type', '%zz'],
    ]
    for (const [name, value, pointer] of bad) {
      const to = name === 'amqp-type' ? '/exchanges/amq.topic/messages' : MESSAGES
      await refused(post(to, 'x', { [name]: value }), 400, 'invalid_message', pointer ?? `/header/${name}`)
    }
    for (const deep of [`{"a": ${'['.repeat(5000)}${']'.repeat(5000)}}`, `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`]) {
      await refused(post(MESSAGES, 'x', { 'amqp-headers': deep }), 400, 'invalid_message')
    }
    await eventually(async () => assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 0))
  })

  it('a publisher of a message above the size limit can read the 413, with and without Content-Length', async () => {
    const large = Buffer.alloc(20 * MiB)
    for (const headers of [{}, { 'transfer-encoding': 'chunked' }] as Record<string, string>[]) {
      await refused(post(MESSAGES, large, headers), 413, 'message_too_large')
    }
    const response = await fetch(gateway.url + MESSAGES, { method: 'POST', body: large })
    assert.equal(response.status, 413)
    assert.equal(((await response.json()) as ProblemBody).code, 'message_too_large')
    await gateway.get('/health/live').expect(200)
  })

  it('a decimal header is refused for a stream, which would crash RabbitMQ, and published to a queue', async () => {
    const stream = await freshQueue(gateway, { type: 'stream' })
    const decimal = { 'amqp-headers': '{"price": {"amqp_type": "decimal", "value": {"places": 2, "digits": 314}}}' }
    for (let i = 0; i < 3; i++) await refused(post(`/queues/${stream}/messages`, 'x', decimal), 400, 'invalid_message')
    assert.equal((await send(post(MESSAGES, 'x', decimal))).status, 201)
    const { body } = await gateway.get(`${MESSAGES}?ack=auto`).expect(200)
    assert.deepEqual(body.messages[0].properties.headers.price.value, { places: 2, digits: 314 })
  })

  it('a message with thousands of header lines is published with all of them or refused', async () => {
    const lines = Array.from({ length: 3000 }, (_, i) => `amqp-header-h${i}: ${i}`)
    const answer = await overSocket(
      gateway.url,
      `POST ${MESSAGES} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1\r\n${lines.join('\r\n')}\r\n\r\nx`,
    )
    const { body } = await gateway.get(`${MESSAGES}?ack=auto`).expect(200)
    const [message] = body.messages as { properties: { headers: object } }[]
    if (message) assert.equal(Object.keys(message.properties.headers).length, lines.length)
    assert.match(answer, message ? /^HTTP\/1\.1 201 / : /^HTTP\/1\.1 4\d\d /)
  })
})

describe('malformed HTTP', () => {
  const problemIn = (answer: string, status: number): ProblemBody => {
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), answer.slice(0, 200))
    assert.match(answer, /\r\ncontent-type: application\/problem\+json\r\n/i)
    const problem = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) as ProblemBody
    assert.equal(problem.status, status)
    assert.ok(problem.code in catalogue)
    return problem
  }

  it('bytes that are not HTTP are answered with 400 and the connection is closed', async () => {
    const requests = [
      'GET\r\n\r\n',
      'hello\r\n\r\n',
      '\u0016\u0003\u0001\u0002\u0000\u0001',
      'AMQP\u0000\u0000\u0009\u0001',
      'NONSENSE /queues/x HTTP/1.1\r\nhost: localhost\r\n\r\n',
    ]
    requests.push(
      `GET /queues/a b HTTP/1.1\r\nhost: localhost\r\n\r\n`,
      `POST ${MESSAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n`,
    )
    requests.push(`POST ${MESSAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n`)
    requests.push(`POST ${MESSAGES} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`)
    requests.push(
      'GET /health/live HTTP/1.1\r\nhost: localhost\r\nbad header: 1\r\n\r\n',
      'GET /health/live HTTP/1.1\r\nhost: localhost\r\nx: a\u0000b\r\n\r\n',
    )
    for (const bytes of requests) problemIn(await overSocket(gateway.url, bytes), 400)
  })

  it('headers above the size limit are answered with 431', async () => {
    const bytes = `GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-large: ${'x'.repeat(200 * 1024)}\r\n\r\n`
    assert.equal(problemIn(await overSocket(gateway.url, bytes), 431).code, 'invalid_request')
    await refused(get(`/queues/${'x'.repeat(140 * 1024)}`), 431, 'invalid_request')
  })

  it('an incomplete request publishes nothing', async () => {
    await overSocket(gateway.url, 'GET /health', { half: true })
    await overSocket(gateway.url, `POST ${MESSAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nhalf`, {
      half: true,
    })
    await gateway.get('/health/live').expect(200)
    assert.equal((await gateway.get(`/queues/${queue}`)).body.message_count, 0)
  })
})

describe('broker connections after invalid messages', () => {
  it('the gateway still has its first broker connections and passes a message on', async () => {
    await eventually(async () => assert.deepEqual(await brokerConnections(), before))
    await gateway.post(MESSAGES).type('text/plain').send('still here').expect(201)
    const { body } = await gateway.get(`${MESSAGES}?ack=auto`).expect(200)
    assert.equal(body.messages[0].payload, 'still here')
  })
})
