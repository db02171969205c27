// Turns every failure into a problem and answers it: expected problems, validation errors, errors of the framework, and defects.

import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { catalogue, Problem, type ProblemCode } from '../problems.js'
import { KnownRoutes } from './known-routes.js'
import { unsupportedType, validationProblem } from './mistakes.js'

/**
 * Headers of every response. Unless a route replaces them, no response is cached, runs scripts, is framed, or has its type
 * guessed.
 */
export const securityHeaders = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
}

/** A failure in the form of an API. */
export interface FormattedError {
  /** The status of the problem if absent. */
  status?: number
  contentType: string
  body: string | Buffer
  headers?: Record<string, string>
}

/** Gives a failure the form that the clients of an API expect. Must not throw. */
export type ErrorFormatter = (problem: Problem, request: FastifyRequest) => FormattedError

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Gives all errors of this scope the form of another API: problems that routes and hooks throw, validation errors, defects,
     * and 404 and 405 under the prefix of the scope. Call it once, in a plugin that is registered with a prefix, before its
     * routes. Logging, `retry-after`, `www-authenticate` and `allow` stay as they are.
     */
    setErrorFormatter: (format: ErrorFormatter) => void
  }
}

/** The default form, application/problem+json (RFC 9457). */
const problemJson: ErrorFormatter = (problem, request) => ({
  contentType: 'application/problem+json',
  body: JSON.stringify(problem.body(requestPath(request), request.id, request.publicPrefix)),
})

/** Answers every failure, and every request without a route. A scope may replace the form with `setErrorFormatter()`. */
export const errors = fp(async (app: FastifyInstance) => {
  const routes = new KnownRoutes()
  app.addHook('onRoute', (route) => routes.add(route))

  app.decorate('setErrorFormatter', function (this: FastifyInstance, format: ErrorFormatter) {
    this.setErrorHandler((error: FastifyError, request, reply) => answer(app, problemFor(error, request), request, reply, format))
    this.setNotFoundHandler((request, reply) => {
      const { refusal, method } = request
      // Only callers who are authenticated learn of routes, or everyone if the gateway does not authenticate.
      answer(app, refusal ?? routes.problemOf(method, requestPath(request)), request, reply, format)
    })
  })
  app.setErrorFormatter(problemJson)
})

/** Answers what the framework refuses before it looks for a route: a path with an invalid percent-encoding. */
export function frameworkError(
  app: () => FastifyInstance,
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  reply.header('x-request-id', request.id).headers(securityHeaders)
  answer(app(), problemFor(error, request), request, reply, problemJson)
}

function answer(
  app: FastifyInstance,
  problem: Problem,
  request: FastifyRequest,
  reply: FastifyReply,
  format: ErrorFormatter,
): void {
  logProblem(app, problem, request)
  const { status = problem.status, contentType, body, headers = {} } = format(problem, request)
  reply.code(status).headers({ ...problem.options.headers, ...headers })
  if (problem.retryAfter !== undefined) reply.header('retry-after', String(problem.retryAfter))
  if (problem.options.challenge) reply.header('www-authenticate', problem.options.challenge)
  if (problem.options.allow) reply.header('allow', problem.options.allow.join(', '))
  // The framework would close the connection while the client still sends its body, and the client would never read the answer.
  if (status === 413) reply.removeHeader('connection')
  reply.type(contentType).serializer(asIs).send(body)
}

const LOGGED_REFUSALS = [401, 403, 429]

/** Logs defects, failures, and refusals with the caller and address. Other problems are the client's, and not logged. */
function logProblem(app: FastifyInstance, problem: Problem, request: FastifyRequest): void {
  const { status, code, message } = problem
  const { id, method, ip, identity } = request
  const fields = { request_id: id, method, path: requestPath(request), code, detail: message }
  if (code === 'internal_error') app.log.error({ ...fields, err: problem.cause }, 'request failed: a defect of the gateway')
  else if (catalogue[code].status >= 500) app.log.warn(fields, 'request failed')
  else if (LOGGED_REFUSALS.includes(status)) {
    app.log.info({ ...fields, status, address: ip, ...(identity?.name && { identity: identity.name }) }, 'request refused')
  }
}

const asIs = (body: unknown): string => body as string
/** The path without the query, in which a client may have put a key. */
export const requestPath = (request: FastifyRequest): string => request.url.split('?', 1)[0]!.slice(0, 2048)

function problemFor(error: FastifyError, request: FastifyRequest): Problem {
  if (error instanceof Problem) return error
  if (error.validation) return validationProblem(error, request)
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Problem('message_too_large', 'The body is larger than the gateway accepts.')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return unsupportedType(request)
  }
  const { statusCode } = error
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new Problem('invalid_request', error.message.slice(0, 500), { cause: error })
  }
  return new Problem('internal_error', 'This is a defect of the gateway. Its log names the request id.', { cause: error })
}

const CLIENT_ERRORS: Record<string, [status: string, detail: string]> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'The request headers are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request did not arrive in time.'],
}

const SECURITY_HEADER_LINES = Object.entries(securityHeaders)
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join('')

/** Answers a connection that does not speak HTTP, or stops. There is no request, so the answer is written to the socket. */
export function clientError(error: NodeJS.ErrnoException, socket: Socket): void {
  // Without a TLS session nothing can be written, and the answer would wait forever.
  if (error.code === 'ECONNRESET' || /^ERR_(SSL|TLS)_/.test(error.code ?? '') || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, detail] = CLIENT_ERRORS[error.code ?? ''] ?? [
    '400 Bad Request',
    `The request is not valid HTTP: ${error.message}.`,
  ]
  const id = randomUUID()
  const problem = new Problem('invalid_request' satisfies ProblemCode, detail, { status: Number(status.slice(0, 3)) })
  const body = JSON.stringify(problem.body('', id))
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nx-request-id: ${id}\r\n${SECURITY_HEADER_LINES}connection: close\r\n\r\n${body}`,
  )
}
