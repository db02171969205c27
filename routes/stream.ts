// A queue as a stream of events, or of lines.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { QueueNameSchema, queryDuration, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { read } from '../src/access/requirements.js'
import { type FieldValue, TypedValue } from '../src/amqp/wire/field-table.js'
import { messageToJson } from '../src/messages/json.js'
import { invalidRequest, Problem } from '../src/problems.js'
import type { Sink } from '../src/receive/stream.js'
import type { Services } from '../src/services.js'
import { leaseOf, nameOf, vhostOf } from './params.js'

const HEARTBEAT_INTERVAL_MS = 15_000
const commentLine = (description: string) => ({ schema: Type.String({ description }) })

export const streamRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { streams, vhosts, config }) => {
  app.get(
    '/queues/:queue/stream',
    {
      config: { access: read('queue') },
      schema: {
        operationId: 'stream',
        tags: ['messages'],
        summary: 'Receive messages as they come',
        description:
          'Server-sent events, or with `Accept: application/x-ndjson` a message a line. Each message comes under a lease that ends with this connection; a RabbitMQ stream is read from an offset and nothing is taken from it.',
        params: Type.Object({ queue: QueueNameSchema }),
        headers: Type.Object({
          'last-event-id': Type.Optional(
            Type.String({ description: 'The last offset seen of a RabbitMQ stream; the next one comes first.' }),
          ),
        }),
        querystring: Type.Object(
          {
            ack: Type.Optional(
              Type.Enum(['manual', 'auto'], {
                description: 'manual (default): settle each lease. auto: settled when written to the socket.',
              }),
            ),
            prefetch: Type.Optional(
              Type.Integer({ minimum: 1, maximum: 1000, default: 10, description: 'How many unsettled at once.' }),
            ),
            lease: Type.Optional(queryDuration('How long each lease lasts: 30s, unless the gateway allows less.')),
            encoding: Type.Optional(Type.Enum(['auto', 'string', 'base64'], { default: 'auto' })),
            offset: Type.Optional(
              Type.String({
                maxLength: 40,
                description: 'Of a RabbitMQ stream: first, last, next (default), an offset, or an RFC 3339 time.',
              }),
            ),
          },
          strict,
        ),
        response: {
          200: {
            description: 'Messages, until either side ends it.',
            content: {
              'text/event-stream': commentLine(
                '`event: message` with the JSON of a message as `data`; `event: end` with a problem.',
              ),
              'application/x-ndjson': commentLine('A message a line; at the end a problem.'),
            },
          },
          ...problems(...BROKER, 'queue_not_found', 'resource_locked', 'too_many_waiters', 'too_many_leases'),
        },
      },
    },
    async (request, reply) => {
      const { ack, prefetch = 10, lease, encoding = 'auto', offset } = request.query
      const resumed = request.headers['last-event-id']
      const stream = await streams.consume({
        vhost: vhostOf(request.params),
        login: request.identity!.login,
        queue: nameOf(request.params, 'queue'),
        ack,
        prefetch,
        lease: leaseOf(lease, config.MAX_LEASE),
        offset: resumed ? after(resumed) : offset === undefined ? undefined : offsetOf(offset),
      })
      reply.raw.once('close', () => stream.end())
      // It may have gone while the broker was asked.
      if (reply.raw.destroyed) stream.end()
      const lines = /application\/x-ndjson/i.test(request.headers.accept ?? '')
      const vhost = vhostOf(request.params) ?? vhosts.defaultName
      // Keys are taken away, and tokens run out, while a stream goes on.
      const stillMay = () => request.identity!.current()?.rights.allows('read', vhost, request.params.queue) === true
      const beat = () => stillMay() || stream.end(new Problem('unauthorized', 'The credentials of the stream are over.'))
      stream.start(openStream(reply, lines ? new Lines() : new Events(), { encoding, requestId: request.id, beat }))
      return reply
    },
  )
}

/** How messages are written: as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) or lines. */
interface StreamFormat {
  type: string
  beginning: string
  heartbeat: string
  message: (json: string, offset: FieldValue | undefined) => string
  end: (json: string) => string
}

class Events implements StreamFormat {
  type = 'text/event-stream; charset=utf-8'
  beginning = 'retry: 1000\n\n'
  heartbeat = ':\n\n'
  message = (json: string, offset: FieldValue | undefined) =>
    `event: message\n${offset === undefined ? '' : `id: ${offset}\n`}data: ${json}\n\n`
  end = (json: string) => `event: end\ndata: ${json}\n\n`
}

class Lines implements StreamFormat {
  type = 'application/x-ndjson; charset=utf-8'
  beginning = ''
  heartbeat = '\n'
  message = (json: string) => `${json}\n`
  end = (json: string) => `${json}\n`
}

interface Opening {
  encoding: 'auto' | 'string' | 'base64'
  requestId: string
  /** Called with every heartbeat. */
  beat: () => void
}

function openStream(reply: FastifyReply, format: StreamFormat, { encoding, requestId, beat }: Opening): Sink {
  reply.hijack()
  const { raw } = reply
  const headers = { ...reply.getHeaders(), 'content-type': format.type, 'x-accel-buffering': 'no' }
  raw.writeHead(200, headers as Record<string, string>)
  raw.flushHeaders()
  if (format.beginning) raw.write(format.beginning)
  const heartbeat = setInterval(() => {
    raw.write(format.heartbeat)
    beat()
  }, HEARTBEAT_INTERVAL_MS)
  raw.once('close', () => clearInterval(heartbeat))
  return {
    write: (messages, flushed) => {
      let chunk = ''
      for (const { delivery, lease } of messages) {
        const offset = delivery.properties.headers?.['x-stream-offset']
        chunk += format.message(messageToJson(delivery, encoding, lease), offset)
      }
      raw.write(chunk, (error) => {
        if (!error) flushed()
      })
    },
    end: (reason) => {
      clearInterval(heartbeat)
      const path = reply.request.url.split('?', 1)[0]!
      raw.end(format.end(JSON.stringify(reason.body(path, requestId))))
    },
    cut: () => raw.destroy(),
  }
}

const MAX_OFFSET = 2n ** 63n - 1n

function after(lastEventId: string): FieldValue {
  const last = /^\d{1,19}$/.test(lastEventId) ? BigInt(lastEventId) : MAX_OFFSET
  if (last >= MAX_OFFSET) throw invalidRequest('/header/last-event-id', 'is not an offset')
  return new TypedValue('int64', last + 1n)
}

function offsetOf(offset: string): FieldValue {
  if (offset === 'first' || offset === 'last' || offset === 'next') return offset
  if (/^\d{1,19}$/.test(offset) && BigInt(offset) <= MAX_OFFSET) return new TypedValue('int64', BigInt(offset))
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i.test(offset) ? Date.parse(offset) : Number.NaN
  if (!(time >= 0)) throw invalidRequest('/query/offset', 'is none of first, last, next, an offset, an RFC 3339 time')
  return new TypedValue('timestamp', BigInt(Math.floor(time / 1000)))
}
