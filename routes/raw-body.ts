// Bodies that are messages, in requests and in responses.

import type { FastifyInstance, FastifyReply, onSendHookHandler } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    /** The content type that the client sent with a message as the body. */
    givenType: string | undefined
  }
}

/** An HTML page that somebody stored as a message must not run as a page of the gateway. */
const MESSAGE_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"

/** Makes the routes of a plugin take any body as bytes, with any content type or none. @param bodyLimit in bytes */
export function acceptAnyBody(
  app: Pick<FastifyInstance, 'removeAllContentTypeParsers' | 'addContentTypeParser' | 'addHook' | 'decorateRequest'>,
  bodyLimit: number,
): void {
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, bodyIsMessage: true }
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_request, body, done) => done(null, body))
  // AMQP's content type is free text. The framework would refuse one that is not a media type before it asks the parser.
  app.decorateRequest('givenType', undefined)
  app.addHook('onRequest', (request, _reply, done) => {
    const { headers } = request.raw
    request.givenType = headers['content-type']
    headers['content-type'] = 'application/octet-stream'
    done()
  })
  app.addHook('preValidation', (request, _reply, done) => {
    const { headers } = request.raw
    if (request.givenType) headers['content-type'] = request.givenType
    else delete headers['content-type']
    done()
  })
}

/** The status line, and what Node.js adds: date, connection, keep-alive, content-length. */
const OWN_HEADERS_BYTES = 180

/**
 * How many bytes the headers of a message may take in a response that already has some.
 * @param limit of all headers together (MAX_RESPONSE_HEADERS)
 * @param more headers that will be added
 */
export function roomForHeaders(reply: FastifyReply, limit: number, more: Record<string, string> = {}): number {
  let room = limit - OWN_HEADERS_BYTES - `content-security-policy: ${MESSAGE_CSP}`.length
  for (const [name, value] of Object.entries({ ...reply.getHeaders(), ...more })) room -= name.length + String(value).length + 4
  return room
}

const types = new WeakMap<FastifyReply, string>()

/** Sets the headers of a response whose body is a message. */
export function answerRaw(reply: FastifyReply, headers: Record<string, string>): void {
  reply.header('content-security-policy', MESSAGE_CSP)
  reply.headers(headers)
  types.set(reply, headers['content-type'] ?? 'application/octet-stream')
}

/** For routes that return messages raw: restores a content type that the framework replaced, since it is not a media type. */
export const keepType: onSendHookHandler = (_request, reply, payload, done) => {
  const type = types.get(reply)
  if (type !== undefined && !reply.getHeader('content-type')?.toString().includes('problem')) reply.header('content-type', type)
  done(null, payload)
}
