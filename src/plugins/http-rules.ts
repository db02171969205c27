// Rules of HTTP that Node.js either does not check or answers by itself, without a problem document and a request id.

import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { invalidRequest, Problem } from '../problems.js'

/** Refuses requests that break a rule of HTTP, before anything else looks at them. */
export const httpRules = fp(async (app: FastifyInstance) => {
  // Without a listener Node.js answers an unknown expectation with an empty 417.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
  app.addHook('onRequest', (request, _reply, done) => done(brokenRule(request.raw)))
})

function brokenRule(request: IncomingMessage): Problem | undefined {
  return hostProblem(request) ?? codingProblem(request) ?? expectationProblem(request) ?? queryProblem(request.url ?? '')
}

/** https://www.rfc-editor.org/rfc/rfc9112#section-3.2 */
function hostProblem({ httpVersion, rawHeaders }: IncomingMessage): Problem | undefined {
  let lines = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (name.length === 4 && name.toLowerCase() === 'host') lines++
  }
  if (lines === 1 || (lines === 0 && httpVersion !== '1.1')) return undefined
  return invalidRequest('/header/host', lines === 0 ? 'is missing: HTTP/1.1 requires it' : 'is there more than once')
}

/** Node.js takes the chunks apart and ignores other codings: https://www.rfc-editor.org/rfc/rfc9112#section-6.1 */
function codingProblem({ headers }: IncomingMessage): Problem | undefined {
  const coding = headers['transfer-encoding']
  if (coding === undefined || coding.trim().toLowerCase() === 'chunked') return undefined
  const detail = 'has a transfer coding that the gateway does not decode: only chunked is supported'
  return new Problem('invalid_request', `/header/transfer-encoding: ${detail}`, {
    status: 501,
    errors: [{ pointer: '/header/transfer-encoding', detail }],
  })
}

/** https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1; as in Node.js, HTTP/1.0 has no expectations. */
function expectationProblem({ httpVersion, headers: { expect } }: IncomingMessage): Problem | undefined {
  if (expect === undefined || httpVersion !== '1.1' || /(?:^|\W)100-continue(?:$|\W)/i.test(expect)) return undefined
  const detail = 'names an expectation that the gateway does not know: only 100-continue is supported'
  return new Problem('invalid_request', `/header/expect: ${detail}`, {
    status: 417,
    errors: [{ pointer: '/header/expect', detail }],
  })
}

/** The framework would take a broken percent-encoding for text. */
function queryProblem(url: string): Problem | undefined {
  const at = url.indexOf('?')
  if (at === -1 || !url.includes('%', at)) return undefined
  for (const part of url.slice(at + 1).split('&')) {
    if (isDecodable(part)) continue
    const name = part.split('=', 1)[0]!.slice(0, 64)
    return invalidRequest(`/query/${name}`, 'has a broken percent-encoding. A percent sign itself is %25')
  }
  return undefined
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}
