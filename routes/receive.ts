// Receive messages, as JSON or raw.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { QueueNameSchema, queryDuration, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { read } from '../src/access/requirements.js'
import { Interrupt } from '../src/amqp/consume/receive.js'
import { messageToJson } from '../src/messages/json.js'
import { writeProperties } from '../src/messages/raw.js'
import { invalidRequest } from '../src/problems.js'
import type { ReceiveClient, Received } from '../src/receive/receiver.js'
import type { Services } from '../src/services.js'
import { durationOf, leaseOf, nameOf, vhostOf } from './params.js'
import { answerRaw, keepType } from './raw-body.js'

export const receiveRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { vhosts, receiver, config } = services

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
  const interrupt = new Interrupt()
  let onEnd: ((written: boolean) => void) | undefined
  let ended = false
  const end = (written: boolean) => {
    if (ended) return
    ended = true
    if (!written) interrupt.fire('client_gone')
    onEnd?.(written)
  }
  // An answer whose socket is taken away "finishes" too; only the socket tells that its bytes were thrown away.
  reply.raw.once('finish', () => end(!reply.raw.req.socket.destroyed))
  reply.raw.once('close', () => end(false))
  return {
    interrupt,
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
