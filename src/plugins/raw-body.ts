// Bodies that are messages.

import type { FastifyInstance } from 'fastify'

/** Any content type, and none, is a message; only its bytes are taken, whatever it claims to be. */
export function acceptAnyBody(
  app: Pick<FastifyInstance, 'removeAllContentTypeParsers' | 'addContentTypeParser' | 'addHook'>,
  bodyLimit: number,
): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_request, body, done) => done(null, body))
  // AMQP's content type is free text; the framework would refuse what is no media type before the parser is asked.
  const given = new WeakMap<object, string | undefined>()
  app.addHook('onRequest', (request, _reply, done) => {
    given.set(request.raw, request.raw.headers['content-type'])
    request.raw.headers['content-type'] = 'application/octet-stream'
    done()
  })
  app.addHook('preValidation', (request, _reply, done) => {
    const type = given.get(request.raw)
    if (type) request.raw.headers['content-type'] = type
    else delete request.raw.headers['content-type']
    done()
  })
}
