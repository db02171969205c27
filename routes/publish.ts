// Publish one raw message.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ExchangeNameSchema, QueueNameSchema, queryDuration, strict } from '../openapi/schemas/common.js'
import { MessageHeadersSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishToExchange, publishToQueue } from '../src/access/requirements.js'
import { readProperties } from '../src/messages/raw.js'
import { type PublishOptions, publish } from '../src/publish/publish.js'
import type { Services } from '../src/services.js'
import { delayOf, nameOf, routingKeyOf, userIdOf, vhostOf } from './params.js'
import { acceptAnyBody } from './raw-body.js'

const confirm = Type.Optional(
  Type.Boolean({ default: true, description: 'false: 202 as soon as the message is written to the broker connection.' }),
)
const delayParameter = Type.Optional(
  queryDuration('Deliver it after so long, from 100ms to 30d. Not together with an `expiration`.'),
)
const optionsOf = (query: { confirm?: boolean; delay?: string }) => ({
  confirm: query.confirm !== false,
  delay: delayOf(query.delay, '/query/delay'),
})
const RawBody = Type.Any({ description: 'The message, byte for byte.' })
const receipt = (description: string) => ({ description, content: { 'application/json': { schema: Type.Ref('Receipt') } } })
const published = {
  201: receipt('RabbitMQ has confirmed the message.'),
  202: receipt('Written to the broker connection; nothing is known of its fate.'),
  ...problems(
    ...BROKER,
    'invalid_message',
    'message_too_large',
    'broker_blocked',
    'publish_rejected',
    'publish_outcome_unknown',
    'queue_not_found',
    'exchange_not_found',
    'unroutable',
    'resource_locked',
  ),
}

export const publishRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { vhosts, config } = services

  await app.register(async (raw: typeof app) => {
    acceptAnyBody(raw, config.MAX_MESSAGE_SIZE)

    raw.post(
      '/queues/:queue/messages',
      {
        config: { access: publishToQueue },
        schema: {
          operationId: 'publishToQueue',
          tags: ['messages'],
          summary: 'Publish a message to a queue',
          description:
            'The body is the message. `content-type` and `content-encoding` are kept; other properties are `amqp-*` headers.',
          params: Type.Object({ queue: QueueNameSchema }),
          querystring: Type.Object({ confirm, delay: delayParameter }, strict),
          headers: MessageHeadersSchema,
          body: RawBody,
          consumes: ['text/plain', 'application/json', 'application/octet-stream'],
          response: published,
        },
      },
      async (request, reply) => {
        const target = { exchange: '', routingKey: nameOf(request.params, 'queue') }
        return send(request, reply, target, { ...optionsOf(request.query), unrouted: 'queue_not_found' })
      },
    )

    raw.post(
      '/exchanges/:exchange/messages',
      {
        config: { access: publishToExchange },
        schema: {
          operationId: 'publishToExchange',
          tags: ['messages'],
          summary: 'Publish a message to an exchange',
          description:
            'As to a queue. Where no queue is bound for it, the answer says `"routed": false`, or is 404 with `mandatory=true`.',
          params: Type.Object({ exchange: ExchangeNameSchema }),
          querystring: Type.Object(
            {
              routing_key: Type.Optional(Type.String({ description: 'Empty where it is not given.' })),
              confirm,
              delay: delayParameter,
              mandatory: Type.Optional(
                Type.Boolean({ default: false, description: 'A message that no queue takes is a 404 `unroutable`.' }),
              ),
            },
            strict,
          ),
          headers: MessageHeadersSchema,
          body: RawBody,
          consumes: ['text/plain', 'application/json', 'application/octet-stream'],
          response: published,
        },
      },
      async (request, reply) => {
        const target = { exchange: nameOf(request.params, 'exchange'), routingKey: routingKeyOf(request.query) }
        const unrouted = request.query.mandatory ? 'unroutable' : 'accept'
        return send(request, reply, target, { ...optionsOf(request.query), unrouted })
      },
    )
  })

  async function send(
    request: FastifyRequest,
    reply: FastifyReply,
    target: { exchange: string; routingKey: string },
    options: Omit<PublishOptions, 'vhost' | 'author'>,
  ) {
    const author = request.identity!
    const properties = readProperties(request.raw.headers, userIdOf(author, vhosts))
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
    const vhost = vhostOf(request.params as object)
    const receipt = await publish(services, { ...target, properties, body }, { ...options, vhost, author })
    return reply.code(options.confirm ? 201 : 202).send(receipt)
  }
}
