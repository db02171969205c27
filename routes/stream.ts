// Stream the messages of a queue, as server-sent events or as lines of JSON.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { type Static, type TObject, Type } from 'typebox'
import { json, pathParams, QueueNameSchema, queryDuration, strict, written } from '../openapi/schemas/common.js'
import { StreamTicketSchema } from '../openapi/schemas/message.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { read } from '../src/access/requirements.js'
import type { Delivery } from '../src/amqp/consume/delivery.js'
import { type FieldValue, TypedValue } from '../src/amqp/wire/field-table.js'
import { messageToJson } from '../src/messages/json.js'
import { NDJSON_TYPES } from '../src/messages/media-type.js'
import { invalidRequest, Problem } from '../src/problems.js'
import { type Sink, shuttingDown } from '../src/receive/stream.js'
import type { Services } from '../src/services.js'
import { identityOf, leaseOf, nameOf, pathOf, preferredType, vhostOf } from './params.js'

const HEARTBEAT_INTERVAL_MS = 15_000
const lines = (description: string) => ({ schema: Type.String({ description }) })

/** How a queue is streamed. */
const streamParameters = {
  ack: Type.Optional(
    Type.Enum(['manual', 'auto'], {
      description:
        'manual (default): the client settles each lease. auto: a message is settled once it is written to the socket.',
    }),
  ),
  prefetch: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 10,
      description: 'Maximum number of unsettled messages at a time.',
    }),
  ),
  lease: Type.Optional(
    queryDuration('How long each lease lasts, from 1s. Default: 30s, or the longest lease that the gateway allows.'),
  ),
  encoding: Type.Optional(
    Type.Enum(['auto', 'string', 'base64'], { default: 'auto', description: 'The encoding of the payload in JSON.' }),
  ),
  offset: Type.Optional(
    Type.String({
      maxLength: 40,
      description: 'Where to begin in a RabbitMQ stream: first, last, next (default), an offset, or an RFC 3339 time.',
    }),
  ),
}

type StreamQuery = Static<TObject<typeof streamParameters>>

/** Stream the messages of a queue until either side ends it, and make tickets for clients that can send no credentials. */
export const streamRoutes: FastifyPluginAsyncTypebox<Services> = async (app, services) => {
  const { streams, tickets, vhosts, config } = services
  app.get(
    '/queues/:queue/stream',
    {
      config: { access: read('queue'), takesMessages: true, takesTicket: true },
      schema: {
        operationId: 'stream',
        tags: ['messages'],
        summary: 'Receive messages as they come',
        description:
          'Sends server-sent events, or one message a line with `Accept: application/x-ndjson`. Each message comes under a lease, which ends with this connection. A RabbitMQ stream is read from an offset, without leases, and keeps its messages.',
        params: pathParams({ queue: QueueNameSchema }),
        headers: Type.Object({
          'last-event-id': Type.Optional(
            Type.String({
              description:
                'The last offset received from a RabbitMQ stream. The stream continues with the next one. Ignored on other queues.',
            }),
          ),
        }),
        querystring: Type.Object(
          {
            ...streamParameters,
            ticket: Type.Optional(
              Type.String({ description: 'A ticket for this stream, in place of credentials and all other parameters.' }),
            ),
          },
          strict,
        ),
        response: {
          200: written<never>('Messages, until the client or the gateway ends the stream.', {
            'text/event-stream': lines(
              '`event: message` with the JSON of a message as `data`. If the gateway ends the stream, `event: end` with a problem.',
            ),
            'application/x-ndjson': lines('One message a line. If the gateway ends the stream, a last line with a problem.'),
          }),
          ...problems(
            ...BROKER,
            'queue_not_found',
            'resource_locked',
            'too_many_waiters',
            'too_many_leases',
            'queue_quarantined',
          ),
        },
      },
    },
    async (request, reply) => {
      const query: StreamQuery = request.ticket?.query ?? request.query
      const { ack, prefetch = 10, encoding = 'auto' } = query
      const identity = identityOf(request)
      const { login } = identity
      const isLines = preferredType(request, ['text/event-stream', ...NDJSON_TYPES]) !== 'text/event-stream'
      const format = isLines ? new Lines() : new Events(request.ticket ? TICKET_EVENT_ID : undefined)
      // An EventSource connects again after a stream that ended, but never after a status other than 200.
      if (services.draining && /text\/event-stream/i.test(request.headers.accept ?? '')) {
        openStream(reply, format, { encoding, requestId: request.id, beat: () => undefined, idOf: () => undefined }).end(
          shuttingDown(),
        )
        return reply
      }
      const stream = await streams.consume({
        vhost: vhostOf(request.params),
        login,
        queue: nameOf(request.params, 'queue'),
        ack,
        prefetch,
        lease: leaseOf(query.lease, config.MAX_LEASE),
        offset: startOf(query),
        resumeAt: resumption(request.headers['last-event-id']),
      })
      reply.raw.once('close', () => stream.end())
      // The client may have left while the gateway asked the broker.
      if (reply.raw.destroyed) stream.end()
      const vhost = vhostOf(request.params) ?? vhosts.defaultName
      // A key may be revoked, or a token expire, while the stream is open.
      const stillMay = () => identity.current()?.rights.allows('read', vhost, request.params.queue) === true
      const beat = () =>
        stillMay() || stream.end(new Problem('unauthorized', 'The credentials of the stream have expired or were revoked.'))
      const idOf = (delivery: Delivery) => stream.offsetOf(delivery)
      stream.start(openStream(reply, format, { encoding, requestId: request.id, beat, idOf }))
      return reply
    },
  )

  app.post(
    '/queues/:queue/stream/ticket',
    {
      config: { access: read('queue') },
      schema: {
        operationId: 'createStreamTicket',
        tags: ['messages'],
        summary: 'Make a ticket for a stream',
        description:
          "A page's `EventSource` can send no credentials: it opens the stream at the `url` of a ticket. A ticket is for one queue and the parameters that it was made with. A client has a minute to connect with it, and may reconnect with `Last-Event-ID`, as `EventSource` does by itself, for an hour, as long as the credentials that made it are valid.",
        params: pathParams({ queue: QueueNameSchema }),
        querystring: Type.Object(streamParameters, strict),
        response: {
          201: json(StreamTicketSchema, 'The ticket.'),
          ...problems(),
        },
      },
    },
    (request, reply) => {
      const { params, query, headers } = request
      const queue = nameOf(params, 'queue')
      leaseOf(query.lease, config.MAX_LEASE)
      startOf(query)
      const vhost = vhostOf(params) ?? vhosts.defaultName
      const { ticket, expiresAt } = tickets.create({ authorization: headers.authorization, vhost, queue, query })
      const url = `${request.publicPrefix}${pathOf(request).replace(/\/ticket$/, '')}?ticket=${ticket}`
      reply.code(201).send({ ticket, expires_at: new Date(expiresAt).toISOString(), url })
    },
  )
}

/**
 * The event id with which a stream that was opened with a ticket begins. `EventSource` sends it when it reconnects, even if no
 * message came in between; that is how the gateway tells a client that reconnects from a stranger with an old URL.
 */
const TICKET_EVENT_ID = 'ticket'

/** How a stream is written: as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) or lines. */
interface StreamFormat {
  type: string
  beginning: string
  heartbeat: string
  message: (json: string, id: number | undefined) => string
  /** @param isBrief whether another try soon is worthwhile: the gateway shuts down, and another one serves, or the next */
  end: (json: string, isBrief: boolean) => string
}

/** Milliseconds until the browser connects again, so that it does not meet the same instance too often. */
const RETRY_LATER = 'retry: 2000\n'

class Events implements StreamFormat {
  /** @param id the event id to begin with */
  constructor(id: string | undefined) {
    this.beginning = `retry: 1000\n${id === undefined ? '' : `id: ${id}\n`}\n`
  }

  type = 'text/event-stream; charset=utf-8'
  readonly beginning: string
  heartbeat = ':\n\n'
  message = (json: string, id: number | undefined) => `event: message\n${id === undefined ? '' : `id: ${id}\n`}data: ${json}\n\n`
  end = (json: string, isBrief: boolean) => `${isBrief ? RETRY_LATER : ''}event: end\ndata: ${json}\n\n`
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
  /** Called after every heartbeat. */
  beat: () => void
  /** The event id of a message, if it has one. */
  idOf: (delivery: Delivery) => number | undefined
}

function openStream(reply: FastifyReply, format: StreamFormat, { encoding, requestId, beat, idOf }: Opening): Sink {
  reply.hijack()
  const { raw } = reply
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value)
  raw.setHeader('content-type', format.type)
  raw.setHeader('x-accel-buffering', 'no')
  raw.writeHead(200)
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
        chunk += format.message(messageToJson(delivery, encoding, lease), idOf(delivery))
      }
      raw.write(chunk, (error) => {
        if (!error) flushed()
      })
    },
    end: (reason) => {
      clearInterval(heartbeat)
      const problem = JSON.stringify(reason.body(pathOf(reply.request), requestId, reply.request.publicPrefix))
      raw.end(format.end(problem, reason.code === 'shutting_down'))
    },
    cut: () => raw.destroy(),
  }
}

const MAX_OFFSET = 2n ** 63n - 1n

/** Where a stream begins, in AMQP's form; undefined if the client did not say. @throws Problem invalid_request */
function startOf({ offset }: StreamQuery): FieldValue | undefined {
  return offset === undefined ? undefined : offsetOf(offset)
}

/** Where a client that reconnects goes on; only known once it is asked for, since only a RabbitMQ stream has offsets. */
function resumption(lastEventId: string | undefined): (() => FieldValue) | undefined {
  return lastEventId && lastEventId !== TICKET_EVENT_ID ? () => after(lastEventId) : undefined
}

function after(lastEventId: string): FieldValue {
  const last = /^\d{1,19}$/.test(lastEventId) ? BigInt(lastEventId) : MAX_OFFSET
  if (last >= MAX_OFFSET) throw invalidRequest('/header/last-event-id', 'is not an offset')
  return new TypedValue('int64', last + 1n)
}

function offsetOf(text: string): FieldValue {
  // A plus sign that the client did not encode arrives as a space.
  const offset = text.replace(/ (?=\d\d:\d\d$)/, '+')
  if (offset === 'first' || offset === 'last' || offset === 'next') return offset
  if (/^\d{1,19}$/.test(offset) && BigInt(offset) <= MAX_OFFSET) return new TypedValue('int64', BigInt(offset))
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i.test(offset) ? Date.parse(offset) : Number.NaN
  if (!(time >= 0)) throw invalidRequest('/query/offset', 'must be first, last, next, an offset or an RFC 3339 time')
  return new TypedValue('timestamp', BigInt(Math.floor(time / 1000)))
}
