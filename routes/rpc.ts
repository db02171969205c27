// RPC: publish a request and answer with its reply.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ExchangeNameSchema, pathParams, QueueNameSchema, queryDuration, strict, written } from '../openapi/schemas/common.js'
import { MessageHeadersSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishToExchange, publishToQueue } from '../src/access/requirements.js'
import type { ReceivedMessage } from '../src/amqp/wire/message.js'
import { readProperties, writeProperties } from '../src/messages/raw.js'
import { Problem } from '../src/problems.js'
import { call } from '../src/publish/rpc.js'
import type { Services } from '../src/services.js'
import { bytesOf, durationOf, identityOf, nameOf, routingKeyOf, userIdOf, vhostOf } from './params.js'
import { acceptAnyBody, answerRaw, keepType, roomForHeaders } from './raw-body.js'

const MAX_TIMEOUT_MS = 10 * 60_000
const timeout = Type.Optional(queryDuration('How long to wait for the reply, from 1ms to 10m.', { default: '30s' }))
const body = Type.Any({ description: 'The body of the request message.' })
const consumes = ['text/plain', 'application/json', 'application/octet-stream']
const responses = {
  200: written<Buffer>('The body of the reply, with its properties in `amqp-*` headers.', {
    'application/octet-stream': { schema: Type.Unsafe({ description: 'The body of the reply.' }) },
  }),
  ...problems(
    ...BROKER,
    'invalid_message',
    'message_too_large',
    'not_acceptable',
    'queue_not_found',
    'exchange_not_found',
    'unroutable',
    'broker_blocked',
    'rpc_timeout',
  ),
}

/** Call a worker through a queue or an exchange. */
export const rpcRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, config, metrics }) => {
  acceptAnyBody(app, config.MAX_MESSAGE_SIZE)
  app.addHook('onSend', keepType)

  /** Publishes the body of the request, sets the headers of the answer, and resolves with its body. */
  async function callRaw(
    request: FastifyRequest,
    reply: FastifyReply,
    { timeout = '30s', ...target }: { vhost: string | undefined; exchange: string; routingKey: string; timeout?: string },
  ): Promise<Buffer> {
    const author = identityOf(request)
    const received = await call(vhosts, metrics, {
      ...target,
      author,
      properties: readProperties(request.raw.headers, userIdOf(author, vhosts)),
      body: bytesOf(request.body),
      timeout: durationOf(timeout, '/query/timeout', 1, MAX_TIMEOUT_MS),
    })
    answerRaw(reply, replyHeaders(received, roomForHeaders(reply, config.MAX_RESPONSE_HEADERS)))
    return received.body
  }

  app.post(
    '/queues/:queue/rpc',
    {
      config: { access: publishToQueue },
      schema: {
        operationId: 'callQueue',
        tags: ['rpc'],
        summary: 'Call a worker through a queue',
        description: 'Publishes the body with `reply_to` and a `correlation_id`, waits for the reply, and returns it raw.',
        params: pathParams({ queue: QueueNameSchema }),
        querystring: Type.Object({ timeout }, strict),
        headers: MessageHeadersSchema,
        body,
        consumes,
        response: responses,
      },
    },
    async (request, reply) =>
      reply.send(
        await callRaw(request, reply, {
          vhost: vhostOf(request.params),
          exchange: '',
          routingKey: nameOf(request.params, 'queue'),
          ...(request.query.timeout !== undefined && { timeout: request.query.timeout }),
        }),
      ),
  )

  app.post(
    '/exchanges/:exchange/rpc',
    {
      config: { access: publishToExchange },
      schema: {
        operationId: 'callExchange',
        tags: ['rpc'],
        summary: 'Call a worker through an exchange',
        description: 'Like a call through a queue. If no queue is bound for the request, the answer is 404 at once.',
        params: pathParams({ exchange: ExchangeNameSchema }),
        querystring: Type.Object(
          {
            routing_key: Type.Optional(Type.String({ description: 'The routing key of the request. Empty by default.' })),
            timeout,
          },
          strict,
        ),
        headers: MessageHeadersSchema,
        body,
        consumes,
        response: responses,
      },
    },
    async (request, reply) =>
      reply.send(
        await callRaw(request, reply, {
          vhost: vhostOf(request.params),
          exchange: nameOf(request.params, 'exchange'),
          routingKey: routingKeyOf(request.query),
          ...(request.query.timeout !== undefined && { timeout: request.query.timeout }),
        }),
      ),
  )
}

function replyHeaders(reply: ReceivedMessage, room: number): Record<string, string> {
  try {
    return writeProperties(reply, room)
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== 'not_acceptable') throw error
    throw new Problem('not_acceptable', 'The reply has more properties than HTTP headers can carry. It is lost.')
  }
}
