// Every failure becomes a problem here and nowhere else: our own, the schema validator's, the HTTP framework's, and defects.

import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { escapePointer } from '../messages/headers.js'
import { type FieldError, Problem, type ProblemCode } from '../problems.js'

/**
 * On every answer. None is a page, except those that say so themselves: it runs nothing, is shown in no frame, and is not guessed
 * at.
 */
export const securityHeaders = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
}

const PARTS: Record<string, string> = { querystring: '/query', params: '/path', headers: '/header', body: '/body' }

export const errors = fp(async (app: FastifyInstance) => {
  // Method and path template of every route, to tell a wrong method from a wrong path.
  const routes: { segments: string[]; methods: string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    routes.push({ segments: url.split('/'), methods: [method].flat() })
  })

  app.setErrorHandler((error: FastifyError, request, reply) => answer(app, problemFor(error), request, reply))
  app.setNotFoundHandler((request, reply) => {
    // What routes there are is for those who are let in; whoever is gets told that there is none.
    if (request.refusal) {
      answer(app, request.refusal, request, reply)
      return
    }
    const path = request.raw.url!.split('?', 1)[0]!.split('/')
    const allow = routes
      .filter(
        ({ segments }) =>
          segments.length === path.length && segments.every((part, i) => part.startsWith(':') || part === path[i]),
      )
      .flatMap(({ methods }) => methods)
    answer(app, allow.length > 0 ? wrongMethod(request, [...new Set(allow)]) : noRoute(request), request, reply)
  })
})

/** For what the framework refuses before it has a route: a path whose percent-encoding is broken. */
export function frameworkError(
  app: () => FastifyInstance,
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  reply.header('x-request-id', request.id).headers(securityHeaders)
  answer(app(), problemFor(error), request, reply)
}

function noRoute(request: FastifyRequest): Problem {
  return new Problem('not_found', `There is no ${request.method} ${requestPath(request)}. The paths are listed at /docs.`)
}

function wrongMethod(request: FastifyRequest, allow: string[]): Problem {
  return new Problem('method_not_allowed', `${request.method} is none of ${allow.join(', ')}.`, { allow })
}

function answer(app: FastifyInstance, problem: Problem, request: FastifyRequest, reply: FastifyReply): void {
  const { status, code } = problem
  const fields = { request_id: request.id, method: request.method, path: requestPath(request), code, detail: problem.message }
  if (code === 'internal_error') app.log.error({ ...fields, err: problem.cause }, 'a defect')
  else if (status >= 500) app.log.warn(fields, 'a request failed')
  else if (LOGGED_REFUSALS.includes(status)) logRefusal(app, problem, request)
  reply.code(status)
  if (problem.retryAfter !== undefined) reply.header('retry-after', String(problem.retryAfter))
  if (problem.options.challenge) reply.header('www-authenticate', problem.options.challenge)
  if (problem.options.allow) reply.header('allow', problem.options.allow.join(', '))
  // The framework would close the connection under a client that still sends its body, which then never reads the answer.
  if (status === 413) reply.removeHeader('connection')
  reply
    .type('application/problem+json')
    .serializer(asIs)
    .send(JSON.stringify(problem.body(requestPath(request), request.id)))
}

const LOGGED_REFUSALS = [401, 403, 429]

/** Who was refused, and from where. */
function logRefusal(app: FastifyInstance, { status, code, message }: Problem, request: FastifyRequest): void {
  const { id, method, ip, identity } = request
  const fields = { request_id: id, method, path: requestPath(request), status, code, detail: message, address: ip }
  app.log.info({ ...fields, ...(identity?.name && { identity: identity.name }) }, 'a request was refused')
}

const asIs = (text: unknown): string => text as string
/** Without the query, where somebody may have put his key. */
export const requestPath = (request: FastifyRequest): string => request.url.split('?', 1)[0]!.slice(0, 2048)

function problemFor(error: FastifyError): Problem {
  if (error instanceof Problem) return error
  if (error.validation) return validationProblem(error)
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Problem('message_too_large', 'The body is larger than the limit of this gateway.')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new Problem('unsupported_media_type', 'Send JSON, with the header content-type: application/json.')
  }
  const { statusCode } = error
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new Problem('invalid_request', error.message.slice(0, 500), { cause: error })
  }
  return new Problem('internal_error', 'This is a defect of the gateway; its log has the request id.', { cause: error })
}

function validationProblem(error: FastifyError): Problem {
  const part = PARTS[error.validationContext ?? 'body'] ?? ''
  const errors = error.validation!.map(({ instancePath, message, keyword, params }): FieldError => {
    if (keyword === 'additionalProperties') {
      return {
        pointer: `${part}${instancePath}/${escapePointer(String(params['additionalProperty']).slice(0, 64))}`,
        detail: 'is not known here',
      }
    }
    if (keyword === 'required') return { pointer: `${part}${instancePath}/${params['missingProperty']}`, detail: 'is missing' }
    if (keyword === 'enum')
      return { pointer: part + instancePath, detail: `must be one of ${(params['allowedValues'] as unknown[]).join(', ')}` }
    return { pointer: part + instancePath, detail: message ?? 'is not valid' }
  })
  return new Problem(
    'invalid_request',
    errors
      .map(({ pointer, detail }) => `${pointer} ${detail}`)
      .join('; ')
      .slice(0, 1000),
    { errors },
  )
}

const CLIENT_ERRORS: Record<string, [status: string, detail: string]> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'The headers of the request are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request did not come in time.'],
}

const SECURITY_HEADER_LINES = Object.entries(securityHeaders)
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join('')

/** For what is no HTTP at all: there is no request to answer, so the answer is written to the socket. */
export function clientError(error: NodeJS.ErrnoException, socket: Socket): void {
  // Where no TLS came about there is nobody to write to, and an answer would wait for ever.
  if (error.code === 'ECONNRESET' || /^ERR_(SSL|TLS)_/.test(error.code ?? '') || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, detail] = CLIENT_ERRORS[error.code ?? ''] ?? ['400 Bad Request', `This is not HTTP: ${error.message}.`]
  const id = randomUUID()
  const problem = new Problem('invalid_request' satisfies ProblemCode, detail, { status: Number(status.slice(0, 3)) })
  const body = JSON.stringify(problem.body('', id))
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nx-request-id: ${id}\r\n${SECURITY_HEADER_LINES}connection: close\r\n\r\n${body}`,
  )
}
