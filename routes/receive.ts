// Receive messages, as JSON or raw.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest, preValidationHookHandler } from 'fastify'
import { type Static, Type } from 'typebox'
import { noContent, pathParams, QueueNameSchema, ref, written } from '../openapi/schemas/common.js'
import { MessagesSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { ReceiveByPostQuerySchema, ReceiveOrderSchema, ReceiveQuerySchema } from '../openapi/schemas/receive.js'
import { read } from '../src/access/requirements.js'
import { ReceiveAbort } from '../src/amqp/consume/receive.js'
import { timestamp } from '../src/lib/clock.js'
import { messageToJson } from '../src/messages/json.js'
import { writeProperties } from '../src/messages/raw.js'
import { invalidRequest } from '../src/problems.js'
import type { ReceiveClient, Received } from '../src/receive/receiver.js'
import type { Services } from '../src/services.js'
import { durationOf, identityOf, leaseOf, nameOf, preferredType, vhostOf } from './params.js'
import { answerRaw, keepType, roomForHeaders } from './raw-body.js'

const MAX_WAIT_MS = 60_000

const messageParams = pathParams({ queue: QueueNameSchema })
const responses = {
  200: written<string | Buffer>('The received messages, in the order of the queue.', {
    'application/json': { schema: ref(MessagesSchema) },
    'application/octet-stream': {
      schema: Type.Unsafe({ description: 'The body of one message, with its properties in `amqp-*` headers.' }),
    },
  }),
  204: noContent('The queue has no message, and the answer would be raw.'),
}
const failures = [
  ...BROKER,
  'queue_not_found',
  'not_acceptable',
  'stream_queue',
  'queue_quarantined',
  'resource_locked',
  'too_many_leases',
  'too_many_waiters',
] as const

/** What a receive needs of its request. */
interface ReceiveHttpRequest extends Pick<FastifyRequest, 'identity' | 'accepts'> {
  params: { vhost?: string; queue: string }
}

/** The parameters of a receive, and where the client has given each of them. */
interface Parameters {
  values: Static<typeof ReceiveQuerySchema> | Static<typeof ReceiveOrderSchema>
  pointer: (name: 'max' | 'wait' | 'lease') => string
}

/** Receive messages from a queue, under leases or without. */
export const receiveRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { vhosts, receiver, config } = services

  /** Resolves with the body of the response; with undefined if the client has gone. @throws Problem see `Receiver.receive()` */
  async function receive(request: ReceiveHttpRequest, reply: FastifyReply, { values, pointer }: Parameters) {
    const { ack = 'manual', max = 1, wait = '0s', lease, encoding = 'auto', format } = values
    const raw = format === 'raw' || (format === undefined && prefersRaw(request))
    if (raw && max !== 1) throw invalidRequest(pointer('max'), 'must be 1 for a raw answer')
    const identity = identityOf(request)
    const order = {
      vhost: vhostOf(request.params),
      login: identity.login,
      queue: nameOf(request.params, 'queue'),
      ack,
      max,
      wait: durationOf(wait, pointer('wait'), 0, MAX_WAIT_MS),
      lease: leaseOf(lease, config.MAX_LEASE, pointer('lease')),
    }
    const answerOf = raw ? rawAnswer(reply, config.MAX_RESPONSE_HEADERS) : jsonAnswer(reply, encoding)
    const vhost = order.vhost ?? vhosts.defaultName
    return receiver.receive(order, clientOf(reply), (received, more) => {
      // The key may have been revoked while the receive waited.
      if (!identity.current()?.rights.allows('read', vhost, order.queue)) throw services.authentication.expired()
      return answerOf(received, more)
    })
  }

  app.post(
    '/queues/:queue/messages/receive',
    {
      config: { access: read('queue') },
      preValidation: refuseTwice,
      onSend: keepType,
      schema: {
        operationId: 'receiveMessages',
        tags: ['messages'],
        summary: 'Receive messages',
        description:
          'By default each message comes under a lease, and the client settles it. If the lease runs out, the message returns to its queue. `Accept: application/octet-stream` or `format=raw` returns one message raw. The parameters are in the query or in the body, each in one of them.',
        params: messageParams,
        querystring: ReceiveByPostQuerySchema,
        body: ref(ReceiveOrderSchema),
        response: { ...responses, ...problems(...failures, 'unsupported_media_type', 'message_too_large') },
      },
    },
    async (request, reply) => {
      const { query, body } = request
      const pointer: Parameters['pointer'] = (name) => `/${name in body ? 'body' : 'query'}/${name}`
      const answer = await receive(request, reply, { values: { ...query, ...body }, pointer })
      return answer === undefined ? reply.hijack() : reply.send(answer)
    },
  )

  app.get(
    '/queues/:queue/messages',
    {
      config: { access: read('queue'), takesMessages: true },
      onSend: keepType,
      schema: {
        operationId: 'receive',
        tags: ['messages'],
        summary: 'Receive messages with GET',
        description:
          'The same as `POST /queues/{queue}/messages/receive`, with all parameters in the query. Proxies and clients may repeat a GET by themselves, and each repetition takes further messages: prefer the POST if one of them does.',
        params: messageParams,
        querystring: ReceiveQuerySchema,
        response: { ...responses, ...problems(...failures) },
      },
    },
    async (request, reply) => {
      const answer = await receive(request, reply, { values: request.query, pointer: (name) => `/query/${name}` })
      return answer === undefined ? reply.hijack() : reply.send(answer)
    },
  )
}

/** Refuses a parameter that is in the query and in the body: the client may mean either. Before defaults are filled in. */
const refuseTwice: preValidationHookHandler = ({ query, body }, _reply, done) => {
  const given = typeof query === 'object' && query !== null ? Object.keys(query) : []
  const twice = given.find((name) => typeof body === 'object' && body !== null && Object.hasOwn(body, name))
  done(twice === undefined ? undefined : invalidRequest(`/body/${twice}`, 'is in the query too'))
}

/** A client without a preference gets JSON, which carries every message. */
const prefersRaw = (request: Pick<FastifyRequest, 'accepts'>): boolean =>
  preferredType(request, ['application/json', 'application/octet-stream']) === 'application/octet-stream'

function clientOf(reply: FastifyReply): ReceiveClient {
  const abort = new ReceiveAbort()
  let onEnd: ((written: boolean) => void) | undefined
  let ended = false
  const end = (isWritten: boolean) => {
    if (ended) return
    ended = true
    if (!isWritten) abort.abort('client_gone')
    onEnd?.(isWritten)
  }
  // A response also "finishes" if its socket is destroyed; only the socket tells that the bytes were lost.
  reply.raw.once('finish', () => end(!reply.raw.req.socket.destroyed))
  reply.raw.once('close', () => end(false))
  return {
    abort,
    onEnd: (listener) => {
      onEnd = listener
    },
  }
}

function jsonAnswer(reply: FastifyReply, encoding: 'auto' | 'string' | 'base64'): (received: Received, more: boolean) => string {
  return (received, more) => {
    reply.type('application/json; charset=utf-8')
    const messages = received.map(({ delivery, lease }) => messageToJson(delivery, encoding, lease)).join(',')
    return `{"messages":[${messages}]${more ? ',"more":true' : ''}}`
  }
}

function rawAnswer(reply: FastifyReply, maxHeaders: number): (received: Received) => Buffer | string {
  return ([message]) => {
    if (!message) {
      reply.code(204)
      return ''
    }
    const { delivery, lease } = message
    const leased: Record<string, string> = lease
      ? {
          'lease-id': lease.id,
          'lease-expires': timestamp(lease.expiresAt),
          location: `${reply.request.publicPrefix}/leases/${lease.id}`,
        }
      : {}
    answerRaw(reply, { ...writeProperties(delivery, roomForHeaders(reply, maxHeaders, leased)), ...leased })
    return delivery.body
  }
}
