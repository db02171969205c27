// A scope of routes with its own error form and its own body parsers, beside the default API.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { openToAll } from '../../src/access/requirements.js'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { acceptJson } from '../../src/plugins/parsers.js'
import { Problem } from '../../src/problems.js'

// Nothing listens there: these requests need no broker.
const app = await buildApp(loadConfig({ AMQP_URL: 'amqp://127.0.0.1:1', LOG_LEVEL: 'silent' }))
after(app.close)
await app.http.register(
  async (toy) => {
    toy.setErrorFormatter((problem, request) => ({
      contentType: 'text/xml',
      ...(problem.code === 'not_found' && { status: 400 }),
      headers: { 'x-error': problem.code },
      body: `<Error><Code>${problem.code}</Code><RequestId>${request.id}</RequestId></Error>`,
    }))
    toy.removeAllContentTypeParsers()
    acceptJson(toy, 'application/x-amz-json-1.0')
    toy.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, text, done) =>
      done(null, Object.fromEntries(new URLSearchParams(text as string))),
    )
    const body = { type: 'object', properties: { n: { type: 'string' } }, required: ['n'] }
    toy.post('/echo', { config: { access: openToAll }, schema: { body, hide: true } }, (request, reply) =>
      reply.send(request.body),
    )
    toy.get('/fail', { config: { access: openToAll }, schema: { hide: true } }, (request) => {
      const { how } = request.query as { how: string }
      if (how === 'defect') throw new TypeError('secret')
      throw new Problem('rate_limited', 'Slow down.', { retryAfter: 7 })
    })
  },
  { prefix: '/toy' },
)
await app.http.ready()

interface Request {
  method?: 'POST' | 'PATCH' | 'DELETE'
  url: string
  headers?: Record<string, string>
  payload?: string
}
const send = async (request: Request) => {
  const { statusCode, headers, body } = await app.http.inject(request)
  return { status: statusCode, type: headers['content-type'], headers, body }
}
const codeOf = (body: string): string | undefined => /<Code>(\w+)<\/Code><RequestId>[\w-]+<\/RequestId>/.exec(body)?.[1]
const post = (url: string, type: string, payload: string) =>
  send({ method: 'POST', url, headers: { 'content-type': type }, payload })

describe('errors of a scope with its own formatter', () => {
  it('a problem has the form and status of the scope, and keeps its headers', async () => {
    const { status, type, headers, body } = await send({ url: '/toy/fail' })
    assert.deepEqual([status, type, codeOf(body)], [429, 'text/xml', 'rate_limited'])
    assert.deepEqual([headers['retry-after'], headers['x-error']], ['7', 'rate_limited'])
  })

  it('a defect has the form of the scope and does not show its cause', async () => {
    const { status, body } = await send({ url: '/toy/fail?how=defect' })
    assert.deepEqual([status, codeOf(body)], [500, 'internal_error'])
    assert.doesNotMatch(body, /secret/)
  })

  it('a body that the schema refuses is answered in the form of the scope', async () => {
    const { status, body } = await post('/toy/echo', 'application/x-amz-json-1.0', '{"n": 1}')
    assert.deepEqual([status, codeOf(body)], [400, 'invalid_request'])
  })

  it('a body that cannot be parsed is answered in the form of the scope', async () => {
    const malformed = await post('/toy/echo', 'application/x-amz-json-1.0', '{')
    assert.deepEqual([malformed.status, codeOf(malformed.body)], [400, 'invalid_request'])
    const unknown = await post('/toy/echo', 'application/json', '{"n": "1"}')
    assert.deepEqual([unknown.status, codeOf(unknown.body)], [415, 'unsupported_media_type'])
  })

  it('a missing route or method under the prefix is answered in the form of the scope', async () => {
    const missing = await send({ url: '/toy/nowhere' })
    assert.deepEqual([missing.status, missing.type, codeOf(missing.body)], [400, 'text/xml', 'not_found'])
    const wrong = await send({ method: 'DELETE', url: '/toy/echo' })
    assert.deepEqual([wrong.status, wrong.headers.allow, codeOf(wrong.body)], [405, 'POST', 'method_not_allowed'])
  })

  it('errors count in the metrics of requests like all others', async () => {
    await send({ url: '/toy/fail' })
    const { body } = await send({ url: '/metrics' })
    assert.match(body, /^gateway_http_request_duration_seconds_count\{[^}]*route="\/toy\/fail",status="429"[^}]*\} [1-9]/m)
  })
})

describe('bodies of a scope with its own parsers', () => {
  it('the scope parses its own content types', async () => {
    assert.equal((await post('/toy/echo', 'application/x-amz-json-1.0', '{"n": "1"}')).body, '{"n":"1"}')
    assert.equal((await post('/toy/echo', 'application/x-www-form-urlencoded', 'n=1')).body, '{"n":"1"}')
  })
})

describe('errors outside of that scope', () => {
  const isProblem = ({ status, type, body }: Awaited<ReturnType<typeof send>>, code: string) => {
    const problem = JSON.parse(body) as { status: number; code: string }
    assert.deepEqual([type, problem.status, problem.code], ['application/problem+json', status, code])
  }

  it('a missing route is answered as problem+json', async () => {
    isProblem(await send({ url: '/nowhere' }), 'not_found')
    isProblem(await send({ url: '/toys/nowhere' }), 'not_found')
  })

  it('a wrong method is answered as problem+json', async () => {
    isProblem(await send({ method: 'PATCH', url: '/queues/q' }), 'method_not_allowed')
  })

  it('an invalid request is answered as problem+json, and form bodies stay unsupported', async () => {
    isProblem(await send({ url: '/queues/q/messages?max=none' }), 'invalid_request')
    isProblem(await post('/queues/q/redrive', 'application/x-www-form-urlencoded', 'n=1'), 'unsupported_media_type')
    isProblem(await post('/queues/q/redrive', 'application/x-amz-json-1.0', '{}'), 'unsupported_media_type')
  })
})
