// Redrives move messages from one queue to where they came from, or elsewhere: begin, look up, stop.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from 'typebox'
import { json, noContent, pathParams, QueueNameSchema, ref } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { RedriveIdParamSchema, RedriveOrderSchema, RedriveSchema, RedrivesSchema } from '../openapi/schemas/redrive.js'
import type { Identity } from '../src/access/identity.js'
import { known, readOfRedrive, redrive } from '../src/access/requirements.js'
import { isReserved, isReservedKey } from '../src/amqp/wire/reserved.js'
import { nameError, routingKeyError } from '../src/messages/properties.js'
import { invalidRequest, Problem } from '../src/problems.js'
import { type RedriveRequest, type RedriveTarget, type RedriveTask, redriveToJson } from '../src/redrive/task.js'
import type { Services } from '../src/services.js'
import { identityOf, nameOf, reservedName, vhostOf } from './params.js'

type RedriveOrder = Static<typeof RedriveOrderSchema>

const redriveParams = pathParams({ id: RedriveIdParamSchema })
const anyVhost = pathParams({})
const MAX_FILTER_BYTES = 2048
/** The size of the caller's rights that a redrive can store, in characters. */
const MAX_RIGHTS_LENGTH = 16 * 1024

/** Begin, look up and stop redrives. */
export const redriveRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { redrives, vhosts }) => {
  /** What a route needs of its request to find a redrive. */
  interface RedriveLookup<Params> {
    params: Params
    identity: Identity | null
  }

  /** Whether the caller may read the queue of the redrive. Otherwise they do not learn that it exists. */
  function isVisible(request: RedriveLookup<{ vhost?: string }>, task: RedriveTask): boolean {
    const vhost = vhostOf(request.params)
    const { login, rights } = identityOf(request)
    if (login || (vhost !== undefined && vhost !== task.vhost)) return false
    return rights.allows('read', task.vhost, task.queue)
  }

  /** @throws Problem redrive_not_found */
  function find(request: RedriveLookup<{ vhost?: string; id: string }>): RedriveTask {
    const task = redrives.get(request.params.id)
    if (task && isVisible(request, task)) return task
    throw new Problem('redrive_not_found', 'The redrive does not exist, or ended more than a day ago.')
  }

  app.post(
    '/queues/:queue/redrive',
    {
      config: { access: redrive },
      schema: {
        operationId: 'redrive',
        tags: ['redrives'],
        summary: 'Move the messages of a queue',
        description:
          'Moves the messages of a dead-letter queue back to where they came from, or elsewhere. Each message is confirmed in its new queue before it is acknowledged in the old one. The redrive runs in the background; if its instance dies, another one continues it.',
        params: pathParams({ queue: QueueNameSchema }),
        body: ref(RedriveOrderSchema),
        response: {
          202: json(RedriveSchema, 'The redrive has begun. `location` is its path, to look it up or stop it.'),
          ...problems(
            ...BROKER,
            'broker_blocked',
            'queue_not_found',
            'exchange_not_found',
            'precondition_failed',
            'stream_queue',
            'queue_quarantined',
            'resource_locked',
            'unsupported_media_type',
            'message_too_large',
          ),
        },
      },
    },
    async (request, reply) => {
      const { rights, login } = identityOf(request)
      // A redrive runs as the gateway's own user, which may do more than the caller, and on instances without their connection.
      if (login)
        throw new Problem('access_refused', 'RabbitMQ users cannot redrive: RabbitMQ could not check their rights later.')
      const queue = nameOf(request.params, 'queue')
      const vhost = vhostOf(request.params) ?? vhosts.defaultName
      const order = orderOf(vhost, queue, request.body)
      const kept = rights.write('write', vhost)
      if (kept !== 'everything' && kept.join('').length > MAX_RIGHTS_LENGTH)
        throw new Problem('access_refused', 'The rights of these credentials are too long for a redrive to store.')
      const task = await redrives.begin(order, kept)
      return reply.code(202).header('location', `${request.publicPrefix}/redrives/${task.id}`).send(redriveToJson(task))
    },
  )

  app.get(
    '/redrives',
    {
      config: { access: known },
      schema: {
        operationId: 'listRedrives',
        tags: ['redrives'],
        summary: 'List redrives',
        description:
          'The redrives of the vhost whose queues the caller may read: all that are running, and those that ended within a day.',
        params: anyVhost,
        response: { 200: json(RedrivesSchema, 'The redrives, oldest first.'), ...problems(...BROKER) },
      },
    },
    async (request) => {
      const vhost = vhostOf(request.params) ?? vhosts.defaultName
      return {
        redrives: redrives
          .list()
          .filter((task) => task.vhost === vhost && isVisible(request, task))
          .map(redriveToJson),
      }
    },
  )

  app.get(
    '/redrives/:id',
    {
      config: { access: readOfRedrive },
      schema: {
        operationId: 'getRedrive',
        tags: ['redrives'],
        summary: 'Look up a redrive',
        params: redriveParams,
        response: { 200: json(RedriveSchema, 'The redrive and its progress.'), ...problems(...BROKER, 'redrive_not_found') },
      },
    },
    async (request) => redriveToJson(find(request)),
  )

  app.delete(
    '/redrives/:id',
    {
      config: { access: readOfRedrive },
      schema: {
        operationId: 'stopRedrive',
        tags: ['redrives'],
        summary: 'Stop a redrive',
        description:
          'Stops a running redrive, on any instance. Messages that it has moved stay moved. A redrive that has ended is removed from the list.',
        params: redriveParams,
        response: {
          204: noContent('The redrive has stopped, or stops as soon as its instance receives the request.'),
          ...problems(...BROKER, 'broker_blocked', 'redrive_not_found'),
        },
      },
    },
    async (request, reply) => {
      await redrives.stop(find(request).id)
      return reply.code(204).send(null)
    },
  )
}

/** @throws Problem invalid_request, access_refused */
function orderOf(vhost: string, queue: string, { to: given, max, rate, filter, dry_run = false }: RedriveOrder): RedriveRequest {
  const to = targetOf(given, queue)
  if (filter && Buffer.byteLength(JSON.stringify(filter)) > MAX_FILTER_BYTES)
    throw invalidRequest('/body/filter', `is larger than ${MAX_FILTER_BYTES} bytes`)
  return {
    vhost,
    queue,
    ...(to && { to }),
    ...(max !== undefined && { max }),
    ...(rate !== undefined && { rate }),
    ...(filter && { filter }),
    dry_run,
  }
}

function targetOf(to: RedriveOrder['to'], from: string): RedriveTarget | undefined {
  if (to === undefined) return undefined
  if (typeof to === 'string') return { queue: checkedQueue(to, '/body/to', from) }
  if ('queue' in to) return { queue: checkedQueue(to.queue, '/body/to/queue', from) }
  const { exchange, routing_key: key } = to
  const detail = nameError(exchange)
  if (detail) throw invalidRequest('/body/to/exchange', detail)
  if (isReserved(exchange)) throw reservedName()
  if (key === undefined) return { exchange }
  if (exchange === 'amq.default') checkedQueue(key, '/body/to/routing_key', from)
  const wrong = routingKeyError(key)
  if (wrong) throw invalidRequest('/body/to/routing_key', wrong)
  if (isReservedKey(exchange, key)) throw reservedName()
  return { exchange, routing_key: key }
}

function checkedQueue(queue: string, pointer: string, from: string): string {
  const detail = nameError(queue)
  if (detail) throw invalidRequest(pointer, detail)
  if (isReserved(queue)) throw reservedName()
  if (queue === from) throw invalidRequest(pointer, 'is the queue that is redriven')
  return queue
}
