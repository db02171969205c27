// Mistakes that people make, and answers that say what to do.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KeyFile } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { get, post, postJson, put, refusals, remove } from '../support/expect-refused.js'
import { freshName, freshQueue, startGateway } from '../support/gateway.js'
import type { RawRequest } from '../support/http.js'

const gateway = await startGateway()
const { refused, send } = refusals(gateway)
const queue = await freshQueue(gateway)
const stream = await freshQueue(gateway, { type: 'stream' })
const MESSAGES = `/queues/${queue}/messages`

type Mistake = [what: string, request: RawRequest, status: number, says: RegExp]

const PATHS: Mistake[] = [
  [
    'POST to declare a queue',
    postJson('/queues/a', '{}'),
    405,
    /PUT \(Declare a queue\).*Did you mean POST \/queues\/a\/messages \(Publish/,
  ],
  ['PUT to publish', put('/queues/a/messages', '{}'), 405, /POST \(Publish a message to a queue\)/],
  ['GET to ack', get('/leases/x/ack'), 405, /POST \(Acknowledge a message\)/],
  ['a slash in a name', get('/queues/a/b/messages'), 404, /%2F: \/queues\/a%2Fb\/messages \(Receive messages with GET\)/],
  ['a slash in the name of a queue to declare', put('/queues/a/b'), 404, /%2F: \/queues\/a%2Fb \(Declare a queue\)/],
  ['the default vhost in a path', get('/vhosts///queues/a'), 404, /%2F: \/vhosts\/%2F\/queues\/a \(Look up a queue\)/],
  [
    'a slash at the end',
    get('/queues/a/messages/'),
    404,
    /no slash at its end: \/queues\/a\/messages \(Receive messages with GET\)/,
  ],
  [
    'a large body to a path with a slash',
    post('/queues/a/b/messages', 'x'.repeat(2_000_000)),
    404,
    /\/queues\/a%2Fb\/messages \(Publish/,
  ],
  ['a misspelt word', get('/queues/a/mesages'), 404, /Did you mean \/queues\/a\/messages \(/],
  ['the singular', get('/queue/a/messages'), 404, /Did you mean \/queues\/a\/messages \(/],
  ['another case', get('/Health/live'), 404, /Did you mean \/health\/live/],
  ['a name in the body', postJson('/exchanges', '{"name": "a"}'), 404, /listed at \/docs/],
  [
    'a name in the body of a PUT',
    put('/exchanges', '{"name": "a"}'),
    404,
    /PUT \/exchanges\/\{exchange\} \(Declare an exchange\)/,
  ],
]

const BODIES: Mistake[] = [
  ['camel case', put('/queues/a', '{"autoDelete": true}'), 400, /autoDelete is unknown: did you mean auto_delete\?/],
  ['a letter too few', put('/queues/a', '{"argments": {}}'), 400, /did you mean arguments\?/],
  ['a boolean in quotes', put('/queues/a', '{"durable": "true"}'), 400, /durable must be true or false, without quotes/],
  [
    'an unknown member',
    put('/queues/a', '{"ttl": 1}'),
    400,
    /ttl is unknown\. Known here: type, durable, auto_delete, dead_letter, arguments/,
  ],
  [
    'a value that nearly fits',
    put('/queues/a', '{"type": "quorom"}'),
    400,
    /must be one of classic, quorum, stream: did you mean quorum\?/,
  ],
  [
    'a member in the query',
    postJson('/leases/x/nack?requeue=false', '{}'),
    400,
    /requeue is unknown in the query: it is a member of the JSON body/,
  ],
  [
    'the lease in the query',
    postJson('/leases/x/extend?lease=2m', '{}'),
    400,
    /lease is unknown in the query: it is a member of the JSON body/,
  ],
  ['a misspelt parameter', get(`${MESSAGES}?wiat=5s`), 400, /wiat is unknown\. Known here: .*wait/],
  ['a boolean of Python', post(`${MESSAGES}?confirm=False`), 400, /confirm must be true or false/],
  [
    'a query parameter in a body',
    { ...remove(`/queues/${queue}`), body: '{}', headers: { 'content-length': '2', 'content-type': 'application/json' } },
    400,
    /query parameters \(if_unused, if_empty\)/,
  ],
  [
    'an argument without its x-',
    put(`/queues/${freshName()}`, '{"arguments": {"max-length": 5}}'),
    400,
    /max-length is no argument of RabbitMQ: did you mean x-max-length\?/,
  ],
  [
    'an argument with underscores',
    put(`/queues/${freshName()}`, '{"arguments": {"x_message_ttl": 5}}'),
    400,
    /did you mean x-message-ttl\?/,
  ],
  [
    'an argument of an exchange with an x-',
    put(`/exchanges/${freshName()}`, '{"type": "topic", "arguments": {"x-alternate-exchange": "a"}}'),
    400,
    /did you mean alternate-exchange\?/,
  ],
  [
    'dead letters of both kinds',
    put(`/queues/${freshName()}`, '{"dead_letter": true, "arguments": {"x-dead-letter-exchange": "a"}}'),
    400,
    /cannot be combined with the argument x-dead-letter-exchange/,
  ],
  [
    'a quorum queue that is not durable',
    put(`/queues/${freshName()}`, '{"type": "quorum", "durable": false}'),
    400,
    /a quorum queue is always durable: leave durable out/,
  ],
  ['a receive from a stream', get(`/queues/${stream}/messages`), 409, /GET \/queues\/[^ ]+\/stream\?offset=first/],
  [
    'a queue that is there with other properties',
    put(`/queues/${queue}`, '{"dead_letter": true}'),
    409,
    /delete it first, .*or choose another name/,
  ],
]

const TYPES: Mistake[] = [
  [
    'JSON as a form',
    put('/queues/a', '{}', { 'content-type': 'application/x-www-form-urlencoded' }),
    415,
    /application\/x-www-form-urlencoded, the default of curl .* Send application\/json/,
  ],
  ['JSON without a type', put('/queues/a', '{}', {}), 415, /no content-type\. Send application\/json/],
  [
    'a batch as CSV',
    post(`${MESSAGES}/batch`, 'a,b\n', { 'content-type': 'text/csv' }),
    415,
    /text\/csv\. Send application\/json, application\/x-ndjson or application\/cloudevents-batch\+json\. application\/x-ndjson has one message a line/,
  ],
  [
    'lines as JSON',
    postJson(`${MESSAGES}/batch`, '{"payload":1}\n{"payload":2}\n'),
    400,
    /One message a line is application\/x-ndjson/,
  ],
  ['an empty batch', postJson(`${MESSAGES}/batch`, ''), 400, /body: is missing/],
]

describe('an answer to a mistake says what to do', () => {
  for (const [what, request, status, says] of [...PATHS, ...BODIES, ...TYPES])
    it(`about ${what}`, async () => {
      const response = await send(request)
      const { detail, code } = response.body as { detail: string; code: string }
      assert.equal(response.status, status, detail)
      assert.match(detail, says)
      await refused(request, status, code)
    })

  it('about lines whose ends curl -d took away', async () => {
    const request = post(`${MESSAGES}/batch`, '{"payload":1}{"payload":2}', { 'content-type': 'application/x-ndjson' })
    const { status, text } = await send(request)
    assert.equal(status, 200)
    assert.match(text, /"status":"invalid".*--data-binary/)
  })

  it('about a key without its scheme', async () => {
    const locked = await startGateway({ AUTH: 'keys', API_KEYS_FILE: new KeyFile().path })
    const { status, body } = await locked.get('/queues/a').set('authorization', 'my-key')
    assert.deepEqual([status, body.code], [401, 'unauthorized'])
    assert.match(body.detail, /authorization: Bearer </)
  })

  it('about a lease that ran out', async () => {
    await gateway.post(MESSAGES).send({ a: 1 }).expect(201)
    const { id } = (await gateway.get(`${MESSAGES}?lease=1s&wait=5s`).expect(200)).body.messages[0].lease
    await eventually(() => gateway.get(`/leases/${id}`).expect(410))
    const { body } = await gateway.post(`/leases/${id}/ack`).expect(410)
    assert.match(body.detail, /^The lease expired .* went back to its queue/)
    await gateway.delete(MESSAGES).expect(200)
  })

  it('about a subscription to localhost', async () => {
    for (const host of ['localhost', 'LOCALHOST:8000', 'a.localhost', 'localhost.']) {
      const body = JSON.stringify({ queue, url: `http://${host}/` })
      const { detail } = await refused(put(`/subscriptions/${freshName()}`, body), 400, 'invalid_request', '/body/url')
      assert.match(detail, /PUSH_ALLOWED_NETWORKS/)
    }
  })
})

describe('a publish that is probably not what was meant says so', () => {
  const PUBLISHED: [what: string, request: RawRequest, warns: RegExp | undefined][] = [
    [
      'JSON as a form',
      post(MESSAGES, '{"task": 1}', { 'content-type': 'application/x-www-form-urlencoded' }),
      /content-type: application\/json/,
    ],
    ['JSON without a type', post(MESSAGES, '[1]', {}), /content-type: application\/json/],
    ['a message of a batch', postJson(MESSAGES, '{"payload": 1, "properties": {"priority": 5}}'), /\/messages\/batch/],
    ['lines', post(MESSAGES, '{"payload":1}\n', { 'content-type': 'application/x-ndjson' }), /\/messages\/batch/],
    ['a delay for the plugin', post(MESSAGES, 'x', { 'content-type': 'text/plain', 'amqp-header-x-delay': '5000' }), /\?delay=/],
    ['JSON', postJson(MESSAGES, '{"task": 1}'), undefined],
    ['JSON with a payload of its own', postJson(MESSAGES, '{"payload": 1, "task": 2}'), undefined],
    ['a form', post(MESSAGES, 'a=1&b=2', { 'content-type': 'application/x-www-form-urlencoded' }), undefined],
    ['text', post(MESSAGES, '{not json', { 'content-type': 'application/x-www-form-urlencoded' }), undefined],
  ]
  for (const [what, request, warns] of PUBLISHED)
    it(`${warns ? 'a warning' : 'no warning'} comes with ${what}`, async () => {
      const { status, body } = await send(request)
      const { warning, routed } = body as { warning?: string; routed: boolean }
      assert.deepEqual([status, routed], [201, true])
      if (warns) assert.match(warning ?? '', warns)
      else assert.equal(warning, undefined)
    })
})
