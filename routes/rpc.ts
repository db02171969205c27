// Request and reply.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ExchangeNameSchema, QueueNameSchema, queryDuration, strict } from '../openapi/schemas/common.js'
import { MessageHeadersSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishToExchange, publishToQueue } from '../src/access/requirements.js'
import type { ReceivedMessage } from '../src/amqp/wire/message.js'
import { readProperties, writeProperties } from '../src/messages/raw.js'
import { Problem } from '../src/problems.js'
import { call } from '../src/publish/rpc.js'
import type { Services } from '../src/services.js'
import { durationOf, nameOf, routingKeyOf, userIdOf, vhostOf } from './params.js'
import { acceptAnyBody, answerRaw, keepType } from './raw-body.js'

const MAX_TIMEOUT_MS = 10 * 60_000
const timeout = Type.Optional(queryDuration('How long to wait for the reply, up to 10m.', { default: '30s' }))
const body = Type.Any({ description: 'The request, byte for byte.' })
const consumes = ['text/plain', 'application/json', 'application/octet-stream']
const answers = {
  200: {
    description: 'The reply, raw, with its properties in `amqp-*` headers.',
    content: { 'application/octet-stream': { schema: Type.Unsafe({ description: 'The body of the reply.' }) } },
  },
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

export const rpcRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, config, metrics }) => {
  acceptAnyBody(app, config.MAX_MESSAGE_SIZE)
  app.addHook('onSend', keepType)

  async function send(request: FastifyRequest, reply: FastifyReply, target: { exchange: string; routingKey: string }) {
    const { timeout: given = '30s' } = request.query as { timeout?: string }
    const received = await call(vhosts, metrics, {
      vhost: vhostOf(request.params as object),
      ...target,
      author: request.identity!,
      properties: readProperties(request.raw.headers, userIdOf(request.identity!, vhosts)),
      body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
      timeout: durationOf(given, '/query/timeout', 1, MAX_TIMEOUT_MS),
    })
    answerRaw(reply, replyHeaders(received))
    return reply.send(received.body)
  }

  app.post(
    '/queues/:queue/rpc',
    {
      config: { access: publishToQueue },
      schema: {
        operationId: 'callQueue',
        tags: ['rpc'],
        summary: 'Call a worker through a queue',
        description: 'Publishes the body with `reply_to` and a `correlation_id`, and answers with the raw reply.',
        params: Type.Object({ queue: QueueNameSchema }),
        querystring: Type.Object({ timeout }, strict),
        headers: MessageHeadersSchema,
        body,
        consumes,
        response: answers,
      },
    },
    async (request, reply) => send(request, reply, { exchange: '', routingKey: nameOf(request.params, 'queue') }),
  )

  app.post(
    '/exchanges/:exchange/rpc',
    {
      config: { access: publishToExchange },
      schema: {
        operationId: 'callExchange',
        tags: ['rpc'],
        summary: 'Call a worker through an exchange',
        description: 'As through a queue. Where no queue is bound for it, 404 at once.',
        params: Type.Object({ exchange: ExchangeNameSchema }),
        querystring: Type.Object(
          { routing_key: Type.Optional(Type.String({ description: 'Empty where it is not given.' })), timeout },
          strict,
        ),
        headers: MessageHeadersSchema,
        body,
        consumes,
        response: answers,
      },
    },
    async (request, reply) =>
      send(request, reply, { exchange: nameOf(request.params, 'exchange'), routingKey: routingKeyOf(request.query) }),
  )
}

function replyHeaders(reply: ReceivedMessage): Record<string, string> {
  try {
    return writeProperties(reply)
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== 'not_acceptable') throw error
    throw new Problem('not_acceptable', 'A reply came, and its properties are more than HTTP headers can carry: it is gone.')
  }
}
