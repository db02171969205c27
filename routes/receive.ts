// Receive messages, as JSON or raw.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { noContent, pathParams, QueueNameSchema, queryDuration, ref, strict, written } from '../openapi/schemas/common.js'
import { MessagesSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { read } from '../src/access/requirements.js'
import { ReceiveAbort } from '../src/amqp/consume/receive.js'
import { messageToJson } from '../src/messages/json.js'
import { writeProperties } from '../src/messages/raw.js'
import { invalidRequest } from '../src/problems.js'
import type { ReceiveClient, Received } from '../src/receive/receiver.js'
import type { Services } from '../src/services.js'
import { acceptsByName, durationOf, identityOf, leaseOf, nameOf, vhostOf } from './params.js'
import { answerRaw, keepType } from './raw-body.js'

const MAX_WAIT_MS = 60_000

/** Receive messages from a queue, under leases or without. */
export const receiveRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { vhosts, receiver, config } = services

  app.get(
    '/queues/:queue/messages',
    {
      config: { access: read('queue'), takesMessages: true },
      onSend: keepType,
      schema: {
        operationId: 'receive',
        tags: ['messages'],
        summary: 'Receive messages',
        description:
          'By default each message comes under a lease, and the client settles it. If the lease runs out, the message returns to its queue. `Accept: application/octet-stream` or `format=raw` returns one message raw.',
        params: pathParams({ queue: QueueNameSchema }),
        querystring: Type.Object(
          {
            ack: Type.Optional(
              Type.Enum(['manual', 'auto', 'requeue'], {
                default: 'manual',
                description:
                  'manual: each message comes under a lease. auto: messages are acked once the answer is written. requeue: messages return to their queue at once.',
              }),
            ),
            max: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 1000, default: 1, description: 'Maximum number of messages to receive.' }),
            ),
            wait: Type.Optional(queryDuration('How long to wait for the first message, up to 60s.', { default: '0s' })),
            lease: Type.Optional(
              queryDuration('How long a lease lasts, from 1s. Default: 30s, or the longest lease that the gateway allows.'),
            ),
            encoding: Type.Optional(
              Type.Enum(['auto', 'string', 'base64'], { default: 'auto', description: 'The encoding of the payload in JSON.' }),
            ),
            format: Type.Optional(
              Type.Enum(['json', 'raw'], { description: 'The form of the answer. By default the `Accept` header decides.' }),
            ),
          },
          strict,
        ),
        response: {
          200: written<string | Buffer>('The received messages, in the order of the queue.', {
            'application/json': { schema: ref(MessagesSchema) },
            'application/octet-stream': {
              schema: Type.Unsafe({ description: 'The body of one message, with its properties in `amqp-*` headers.' }),
            },
          }),
          204: noContent('The queue has no message, and the answer would be raw.'),
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
      const raw = format === 'raw' || (format === undefined && prefersRaw(request))
      if (raw && max !== 1) throw invalidRequest('/query/max', 'must be 1 for a raw answer')
      const identity = identityOf(request)
      const order = {
        vhost: vhostOf(request.params),
        login: identity.login,
        queue: nameOf(request.params, 'queue'),
        ack,
        max,
        wait: durationOf(wait, '/query/wait', 0, MAX_WAIT_MS),
        lease: leaseOf(lease, config.MAX_LEASE),
      }
      const answerOf = raw ? rawAnswer(reply) : (received: Received) => jsonAnswer(reply, received, encoding)
      const vhost = order.vhost ?? vhosts.defaultName
      const answer = await receiver.receive(order, clientOf(reply), (received) => {
        // The key may have been revoked while the receive waited.
        if (!identity.current()?.rights.allows('read', vhost, order.queue)) throw services.authentication.expired()
        return answerOf(received)
      })
      if (answer === undefined) return reply.hijack() // the client has gone
      return reply.send(answer)
    },
  )
}

/** A client that accepts both forms gets JSON, which carries every message. */
function prefersRaw(request: Pick<FastifyRequest, 'accepts'>): boolean {
  return acceptsByName(request, 'application/octet-stream') && !acceptsByName(request, 'application/json')
}

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
