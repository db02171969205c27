// Bodies that are messages, in requests and in answers.

import type { FastifyInstance, FastifyReply, onSendHookHandler } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    /** The content type of a body that is a message, as it came. */
    givenType: string | undefined
  }
}

/** Any content type, and none, is a message; only its bytes are taken, whatever it claims to be. */
export function acceptAnyBody(
  app: Pick<FastifyInstance, 'removeAllContentTypeParsers' | 'addContentTypeParser' | 'addHook' | 'decorateRequest'>,
  bodyLimit: number,
): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_request, body, done) => done(null, body))
  // AMQP's content type is free text; the framework would refuse what is no media type before the parser is asked.
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

/** Sets the headers of an answer that is a message as it came. */
export function answerRaw(reply: FastifyReply, headers: Record<string, string>): void {
  // A stored HTML page is not to run as one of the gateway's own; neither is it to be guessed at, as no answer is.
  reply.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'; sandbox")
  reply.headers(headers)
  types.set(reply, headers['content-type'] ?? 'application/octet-stream')
}

/** For routes that answer raw: the framework has put a type of its own in the place of one that is no media type. */
export const keepType: onSendHookHandler = (_request, reply, payload, done) => {
  const type = types.get(reply)
  if (type !== undefined && !reply.getHeader('content-type')?.toString().includes('problem')) reply.header('content-type', type)
  done(null, payload)
}
