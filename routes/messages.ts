// Publish one raw message; receive.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ExchangeNameSchema, QueueNameSchema, queryDuration, strict } from '../openapi/schemas/common.js'
import { MessageHeadersSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { publishToExchange, publishToQueue, read } from '../src/access/requirements.js'
import { ReceiveAbort } from '../src/amqp/consume/receive.js'
import { messageToJson } from '../src/messages/json.js'
import { readProperties, writeProperties } from '../src/messages/raw.js'
import { invalidRequest } from '../src/problems.js'
import { type PublishOptions, publish } from '../src/publish/publish.js'
import type { ReceiveClient, Received } from '../src/receive/receiver.js'
import type { Services } from '../src/services.js'
import { delayOf, durationOf, leaseOf, nameOf, routingKeyOf, userIdOf, vhostOf } from './params.js'
import { acceptAnyBody, answerRaw, keepType } from './raw-body.js'

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

export const messageRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { vhosts, receiver, config } = services

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

  app.get(
    '/queues/:queue/messages',
    {
      config: { access: read('queue') },
      onSend: keepType,
      schema: {
        operationId: 'receive',
        tags: ['messages'],
        summary: 'Receive messages',
        description:
          'By default each message comes under a lease and is to be settled; a lease that runs out gives it back. `Accept: application/octet-stream` or `format=raw` answers one message raw.',
        params: Type.Object({ queue: QueueNameSchema }),
        querystring: Type.Object(
          {
            ack: Type.Optional(
              Type.Enum(['manual', 'auto', 'requeue'], {
                default: 'manual',
                description:
                  'manual: under a lease. auto: settled once the answer is written. requeue: a look; the messages go back.',
              }),
            ),
            max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 1 })),
            wait: Type.Optional(queryDuration('How long to wait for the first message, up to 60s.', { default: '0s' })),
            lease: Type.Optional(queryDuration('How long a lease lasts: 30s, unless the gateway allows less.')),
            encoding: Type.Optional(
              Type.Enum(['auto', 'string', 'base64'], { default: 'auto', description: 'The form of the payload in JSON.' }),
            ),
            format: Type.Optional(Type.Enum(['json', 'raw'])),
          },
          strict,
        ),
        response: {
          200: {
            description: 'What there was, in the order of the queue.',
            content: {
              'application/json': { schema: Type.Ref('Messages') },
              'application/octet-stream': {
                schema: Type.Unsafe({ description: 'One message, raw, with its properties in `amqp-*` headers.' }),
              },
            },
          },
          204: { description: 'Raw, and there is no message.', type: 'null' },
          ...problems(
            ...BROKER,
            'queue_not_found',
            'not_acceptable',
            'stream_queue',
            'resource_locked',
            'too_many_leases',
            'too_many_waiters',
          ),
        },
      },
    },
    async (request, reply) => {
      const { ack = 'manual', max = 1, wait = '0s', lease, encoding = 'auto', format } = request.query
      const raw = format === 'raw' || (format === undefined && prefersRaw(request.headers.accept))
      if (raw && max !== 1) throw invalidRequest('/query/max', 'must be 1 for a raw answer')
      const order = {
        vhost: vhostOf(request.params),
        login: request.identity!.login,
        queue: nameOf(request.params, 'queue'),
        ack,
        max,
        wait: durationOf(wait, '/query/wait', 0, 60_000),
        lease: leaseOf(lease, config.MAX_LEASE),
      }
      const form = raw ? rawAnswer(reply) : (received: Received) => jsonAnswer(reply, received, encoding)
      const vhost = order.vhost ?? vhosts.defaultName
      const answer = await receiver.receive(order, clientOf(reply), (received) => {
        // A key may have been taken away while it waited.
        if (!request.identity!.current()?.rights.allows('read', vhost, order.queue)) throw services.authentication.expired()
        return form(received)
      })
      if (answer === undefined) return reply.hijack() // nobody is there to read it
      return reply.send(answer)
    },
  )
}

/** Whether octet-stream is asked for by name; a client that takes anything gets JSON. */
function prefersRaw(accept: string | undefined): boolean {
  return accept !== undefined && /application\/octet-stream/i.test(accept) && !/application\/json/i.test(accept)
}

function clientOf(reply: FastifyReply): ReceiveClient {
  const abort = new ReceiveAbort()
  let onEnd: ((written: boolean) => void) | undefined
  let ended = false
  const end = (written: boolean) => {
    if (ended) return
    ended = true
    if (!written) abort.abort('client_gone')
    onEnd?.(written)
  }
  // An answer whose socket is taken away "finishes" too; only the socket tells that its bytes were thrown away.
  reply.raw.once('finish', () => end(!reply.raw.req.socket.destroyed))
  reply.raw.once('close', () => end(false))
  return {
    abort,
    onEnd: (listener) => {
      onEnd = listener
    },
  }
}

function jsonAnswer(reply: FastifyReply, received: Received, encoding: 'auto' | 'string' | 'base64'): string {
  reply.type('application/json; charset=utf-8')
  return `{"messages":[${received.map(({ delivery, lease }) => messageToJson(delivery, encoding, lease)).join(',')}]}`
}

function rawAnswer(reply: FastifyReply): (received: Received) => Buffer | string {
  return ([message]) => {
    if (!message) {
      reply.code(204)
      return ''
    }
    const { delivery, lease } = message
    const headers = writeProperties(delivery)
    answerRaw(reply, headers)
    if (lease)
      reply.headers({
        'lease-id': lease.id,
        'lease-expires': new Date(lease.expiresAt).toISOString(),
        location: `/leases/${lease.id}`,
      })
    return delivery.body
  }
}
