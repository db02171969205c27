// Publish many messages in one request.

import { PassThrough, type Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchemaCompiler } from 'fastify'
import { type Static, Type } from 'typebox'
import { BatchResultsSchema, BatchSchema } from '../openapi/schemas/batch.js'
import { ExchangeNameSchema, pathParams, QueueNameSchema, ref, strict, written } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishManyToExchange, publishToQueue } from '../src/access/requirements.js'
import { isNdjson, mediaTypeOf, NDJSON_TYPES, textOf } from '../src/messages/media-type.js'
import type { Problem } from '../src/problems.js'
import { Batch, publishAll } from '../src/publish/batch.js'
import { publishLines, RESULT_BUFFER_BYTES } from '../src/publish/ndjson.js'
import type { Services } from '../src/services.js'
import { identityOf, nameOf, pathOf, present, routingKeyOf, vhostOf } from './params.js'

const summary = 'Publish many messages'
const description =
  'Takes up to 10 000 messages as `{"messages": […]}` or as a CloudEvents batch, or any number as NDJSON, one message a line, which the gateway reads and confirms as they arrive. Each message has its own result, in the same order: an invalid message does not affect the others.'
const EVENTS_TYPE = 'application/cloudevents-batch+json'
const WHOLE_TYPES = ['application/json', EVENTS_TYPE]
const batchMediaTypes = ['application/json', NDJSON_TYPES[0], EVENTS_TYPE]
const batchResponse = {
  200: written<Static<typeof BatchResultsSchema> | Readable>(
    'One result for each message. `unknown` means that no confirm arrived: the message may or may not be in the queue.',
    {
      'application/json': { schema: ref(BatchResultsSchema) },
      'application/x-ndjson': {
        schema: Type.String({ description: 'One `BatchResult` a line, then the totals: `{"published", "failed"}`.' }),
      },
    },
  ),
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

/** Where the messages of a batch go. */
interface BatchAddress {
  vhost: string | undefined
  to: 'queue' | 'exchange'
  exchange: string
  routingKey: string
}

/** Reads a JSON batch as text. NDJSON is read while it is published. */
function acceptBatches(app: Pick<FastifyInstance, 'removeAllContentTypeParsers' | 'addContentTypeParser'>, limit: number): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(WHOLE_TYPES, { parseAs: 'buffer', bodyLimit: limit }, (request, bytes, done) => {
    try {
      done(null, textOf(bytes as Buffer, mediaTypeOf(request.headers['content-type'])?.charset))
    } catch (error) {
      done(error as Problem)
    }
  })
  app.addContentTypeParser([...NDJSON_TYPES], (_request, _payload, done) => done(null, undefined))
}

/** Publish many messages to a queue or an exchange. */
export const batchRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { config } = services
  acceptBatches(app, config.MAX_BATCH_SIZE)

  // The body is not validated as a whole: each message is read from the text on its own, so that a bad one fails alone.
  const body = ref(BatchSchema)
  const validateOthers = present(app.validatorCompiler, 'the validator')
  const validatorCompiler: FastifySchemaCompiler<unknown> = (part) =>
    part.httpPart === 'body' ? () => true : validateOthers(part)

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
        params: pathParams({ queue: QueueNameSchema }),
        body,
        response: batchResponse,
      },
      validatorCompiler,
    },
    async (request, reply) => {
      const routingKey = nameOf(request.params, 'queue')
      const vhost = vhostOf(request.params)
      return reply.send(await publishBatch(request, reply, { vhost, to: 'queue', exchange: '', routingKey }))
    },
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
        params: pathParams({ exchange: ExchangeNameSchema }),
        querystring: Type.Object(
          {
            routing_key: Type.Optional(
              Type.String({ description: 'The routing key of messages that do not have one. Empty by default.' }),
            ),
          },
          strict,
        ),
        body,
        response: batchResponse,
      },
      validatorCompiler,
    },
    async (request, reply) => {
      const exchange = nameOf(request.params, 'exchange')
      const routingKey = routingKeyOf(request.query)
      const vhost = vhostOf(request.params)
      return reply.send(await publishBatch(request, reply, { vhost, to: 'exchange', exchange, routingKey }))
    },
  )

  /** Publishes the messages of the body, and resolves with the results: all of them, or a stream for NDJSON. */
  async function publishBatch(
    request: FastifyRequest,
    reply: FastifyReply,
    address: BatchAddress,
  ): Promise<Static<typeof BatchResultsSchema> | Readable> {
    const type = request.headers['content-type']
    const text = typeof request.body === 'string' ? request.body : ''
    const batch = await Batch.begin(services, {
      author: identityOf(request),
      ...address,
      wanted: () => !reply.raw.destroyed,
      instance: pathOf(request),
      requestId: request.id,
      prefix: request.publicPrefix,
    })
    if (isNdjson(type)) {
      const out = new PassThrough({ writableHighWaterMark: RESULT_BUFFER_BYTES })
      reply.raw.once('close', () => out.destroy())
      publishLines(batch, request.raw, out, config).catch((error) => out.destroy(error))
      reply.type('application/x-ndjson; charset=utf-8')
      return out
    }
    const results = await publishAll(batch, text, mediaTypeOf(type)?.essence === EVENTS_TYPE ? 'cloudevents' : 'json')
    const published = results.filter(({ status }) => status === 'confirmed').length
    return { published, failed: results.length - published, results }
  }
}
