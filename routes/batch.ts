// Publish many messages in one request.

import { PassThrough } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest, FastifySchemaCompiler } from 'fastify'
import { Type } from 'typebox'
import { ExchangeNameSchema, QueueNameSchema, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishManyToExchange, publishToQueue } from '../src/access/requirements.js'
import { Batch, publishAll } from '../src/publish/batch.js'
import { publishLines, RESULT_BUFFER_BYTES } from '../src/publish/ndjson.js'
import type { Services } from '../src/services.js'
import { nameOf, routingKeyOf, vhostOf } from './params.js'

const summary = 'Publish many messages'
const description =
  'As `{"messages": […]}` (up to 10 000), as NDJSON with a message a line (any number, read and confirmed as they come), or as a CloudEvents batch. A result a message, in order: one bad message fails alone.'
const batchMediaTypes = ['application/json', 'application/x-ndjson', 'application/cloudevents-batch+json']
const batchResponse = {
  200: {
    description: 'A result for each message. `unknown`: no confirm came; it may or may not be in the queue.',
    content: {
      'application/json': { schema: Type.Ref('BatchResults') },
      'application/x-ndjson': {
        schema: Type.String({ description: 'A `BatchResult` a line, then the totals: `{"published", "failed"}`.' }),
      },
    },
  },
  ...problems(
    ...BROKER,
    'queue_not_found',
    'exchange_not_found',
    'message_too_large',
    'unsupported_media_type',
    'broker_blocked',
    'resource_locked',
  ),
}

export const batchRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { config } = services
  app.removeAllContentTypeParsers()
  const whole = { parseAs: 'buffer', bodyLimit: config.MAX_BATCH_SIZE } as const
  for (const type of ['application/json', 'application/cloudevents-batch+json']) {
    app.addContentTypeParser(type, whole, (_request, bytes, done) => done(null, bytes))
  }
  app.addContentTypeParser('application/x-ndjson', (_request, _payload, done) => done(null, undefined))

  // The messages are read one by one, from the text as it came, so that one that is bad fails alone.
  const body = Type.Ref('Batch')
  const others = app.validatorCompiler!
  const validatorCompiler: FastifySchemaCompiler<unknown> = (part) => (part.httpPart === 'body' ? () => true : others(part))

  app.post(
    '/queues/:queue/messages/batch',
    {
      config: { access: publishToQueue },
      schema: {
        operationId: 'publishBatchToQueue',
        tags: ['messages'],
        summary: `${summary} to a queue`,
        description,
        consumes: batchMediaTypes,
        params: Type.Object({ queue: QueueNameSchema }),
        body,
        response: batchResponse,
      },
      validatorCompiler,
    },
    async (request, reply) => send(request, reply, { exchange: '', routingKey: nameOf(request.params, 'queue') }, 'queue'),
  )

  app.post(
    '/exchanges/:exchange/messages/batch',
    {
      config: { access: publishManyToExchange },
      schema: {
        operationId: 'publishBatchToExchange',
        tags: ['messages'],
        summary: `${summary} to an exchange`,
        description,
        consumes: batchMediaTypes,
        params: Type.Object({ exchange: ExchangeNameSchema }),
        querystring: Type.Object(
          { routing_key: Type.Optional(Type.String({ description: 'Of messages that name none.' })) },
          strict,
        ),
        body,
        response: batchResponse,
      },
      validatorCompiler,
    },
    async (request, reply) =>
      send(request, reply, { exchange: nameOf(request.params, 'exchange'), routingKey: routingKeyOf(request.query) }, 'exchange'),
  )

  async function send(
    request: FastifyRequest,
    reply: FastifyReply,
    target: { exchange: string; routingKey: string },
    to: 'queue' | 'exchange',
  ) {
    const instance = request.url.split('?', 1)[0]!
    const batch = await Batch.begin(services, {
      author: request.identity!,
      vhost: vhostOf(request.params as object),
      to,
      ...target,
      wanted: () => !reply.raw.destroyed,
      instance,
      requestId: request.id,
    })
    const type = request.headers['content-type'] ?? ''
    if (/^application\/x-ndjson/i.test(type)) {
      const out = new PassThrough({ writableHighWaterMark: RESULT_BUFFER_BYTES })
      reply.raw.once('close', () => out.destroy())
      publishLines(batch, request.raw, out, config).catch((error) => out.destroy(error as Error))
      return reply.type('application/x-ndjson; charset=utf-8').send(out)
    }
    const results = await publishAll(
      batch,
      (request.body as Buffer | undefined) ?? Buffer.alloc(0),
      /cloudevents/i.test(type) ? 'cloudevents' : 'json',
    )
    const published = results.filter(({ status }) => status === 'confirmed').length
    return reply.send({ published, failed: results.length - published, results })
  }
}
