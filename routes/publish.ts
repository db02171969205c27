// Publish one raw message.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ExchangeNameSchema, json, pathParams, QueueNameSchema, queryDuration, strict } from '../openapi/schemas/common.js'
import { MessageHeadersSchema, ReceiptSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishToExchange, publishToQueue } from '../src/access/requirements.js'
import { publishAdvice } from '../src/messages/advice.js'
import { readProperties } from '../src/messages/raw.js'
import { type PublishOptions, publish, type Receipt } from '../src/publish/publish.js'
import type { Services } from '../src/services.js'
import { bytesOf, delayOf, identityOf, nameOf, routingKeyOf, userIdOf, vhostOf } from './params.js'
import { acceptAnyBody } from './raw-body.js'

const confirmParameter = Type.Optional(
  Type.Boolean({
    default: true,
    description: 'false: answer 202 once the message is written to the broker connection, without waiting for the confirm.',
  }),
)
const delayParameter = Type.Optional(
  queryDuration('Deliver the message after this time, from 100ms to 30d. Cannot be combined with an expiration.'),
)
const rawBody = Type.Any({ description: 'The body of the message.' })
const consumes = ['text/plain', 'application/json', 'application/octet-stream']
const responses = {
  201: json(ReceiptSchema, 'RabbitMQ has confirmed the message.'),
  202: json(ReceiptSchema, 'The message was written to the broker connection. The gateway does not know whether it was stored.'),
  ...problems(
    ...BROKER,
    'invalid_message',
    'message_too_large',
    'broker_blocked',
    'publish_rejected',
    'publish_refused',
    'publish_outcome_unknown',
    'queue_not_found',
    'exchange_not_found',
    'unroutable',
    'resource_locked',
  ),
}

const optionsOf = (query: { confirm?: boolean; delay?: string }) => ({
  confirm: query.confirm !== false,
  delay: delayOf(query.delay, '/query/delay'),
})
const statusOf = ({ confirm }: { confirm: boolean }) => (confirm ? 201 : 202)

/** Publish one raw message to a queue or an exchange. */
export const publishRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { vhosts, config } = services
  acceptAnyBody(app, config.MAX_MESSAGE_SIZE)

  app.post(
    '/queues/:queue/messages',
    {
      config: { access: publishToQueue },
      schema: {
        operationId: 'publishToQueue',
        tags: ['messages'],
        summary: 'Publish a message to a queue',
        description:
          'The body of the request is the body of the message. `content-type` and `content-encoding` become its properties; `amqp-*` headers set the others.',
        params: pathParams({ queue: QueueNameSchema }),
        querystring: Type.Object({ confirm: confirmParameter, delay: delayParameter }, strict),
        headers: MessageHeadersSchema,
        body: rawBody,
        consumes,
        response: responses,
      },
    },
    async (request, reply) => {
      const address = { exchange: '', routingKey: nameOf(request.params, 'queue') }
      const options = optionsOf(request.query)
      const receipt = await publishRaw(request, address, {
        ...options,
        vhost: vhostOf(request.params),
        unrouted: 'queue_not_found',
      })
      return reply.code(statusOf(options)).send(receipt)
    },
  )

  app.post(
    '/exchanges/:exchange/messages',
    {
      config: { access: publishToExchange },
      schema: {
        operationId: 'publishToExchange',
        tags: ['messages'],
        summary: 'Publish a message to an exchange',
        description:
          'The request is the same as for a queue. If no queue is bound for the message, the answer has `"routed": false`, or is a 404 with `mandatory=true`; if that is not known, `routed` is absent.',
        params: pathParams({ exchange: ExchangeNameSchema }),
        querystring: Type.Object(
          {
            routing_key: Type.Optional(Type.String({ description: 'The routing key of the message. Empty by default.' })),
            confirm: confirmParameter,
            delay: delayParameter,
            mandatory: Type.Optional(
              Type.Boolean({ default: false, description: 'true: answer 404 `unroutable` if no queue takes the message.' }),
            ),
          },
          strict,
        ),
        headers: MessageHeadersSchema,
        body: rawBody,
        consumes,
        response: responses,
      },
    },
    async (request, reply) => {
      const address = { exchange: nameOf(request.params, 'exchange'), routingKey: routingKeyOf(request.query) }
      const options = optionsOf(request.query)
      const receipt = await publishRaw(request, address, {
        ...options,
        vhost: vhostOf(request.params),
        unrouted: request.query.mandatory ? 'unroutable' : 'accept',
      })
      return reply.code(statusOf(options)).send(receipt)
    },
  )

  /** Publishes the body of the request with the properties in its headers. */
  async function publishRaw(
    request: FastifyRequest,
    address: { exchange: string; routingKey: string },
    options: Omit<PublishOptions, 'author'>,
  ): Promise<Receipt> {
    const author = identityOf(request)
    const properties = readProperties(request.raw.headers, userIdOf(author, vhosts))
    const message = { ...address, properties, body: bytesOf(request.body) }
    const receipt = await publish(services, message, { ...options, author })
    const warning = publishAdvice(message)
    return warning === undefined ? receipt : { ...receipt, warning }
  }
}
