// Bodies that are messages, in requests and in responses.

import type { FastifyInstance, FastifyReply, onSendHookHandler } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    /** The content type that the client sent with a message as the body. */
    givenType: string | undefined
  }
}

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

const types = new WeakMap<FastifyReply, string>()

/** Sets the headers of a response whose body is a message. */
export function answerRaw(reply: FastifyReply, headers: Record<string, string>): void {
  // An HTML page that somebody stored as a message must not run as a page of the gateway.
  reply.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'; sandbox")
  reply.headers(headers)
  types.set(reply, headers['content-type'] ?? 'application/octet-stream')
}

/** For routes that return messages raw: restores a content type that the framework replaced, since it is not a media type. */
export const keepType: onSendHookHandler = (_request, reply, payload, done) => {
  const type = types.get(reply)
  if (type !== undefined && !reply.getHeader('content-type')?.toString().includes('problem')) reply.header('content-type', type)
  done(null, payload)
}
