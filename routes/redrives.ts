// Move messages from one queue to where they came from, or elsewhere: begin, look at, stop.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { QueueNameSchema } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { RedriveIdParamSchema } from '../openapi/schemas/redrive.js'
import { known, readOfRedrive, redrive } from '../src/access/requirements.js'
import { isReserved } from '../src/amqp/wire/reserved.js'
import { nameError, routingKeyError } from '../src/messages/properties.js'
import { invalidRequest, Problem } from '../src/problems.js'
import {
  type RedriveFilter,
  type RedriveRequest,
  type RedriveTarget,
  type RedriveTask,
  redriveToJson,
} from '../src/redrive/task.js'
import type { Services } from '../src/services.js'
import { nameOf, vhostOf } from './params.js'

const json = (id: string, description: string) => ({ description, content: { 'application/json': { schema: Type.Ref(id) } } })
const byId = { params: Type.Object({ id: RedriveIdParamSchema }) }
const MAX_FILTER = 2048
/** Scopes of one author that a redrive keeps, in characters. */
const MAX_RIGHTS = 16 * 1024

interface Body {
  to?: string | { queue?: string; exchange?: string; routing_key?: string }
  max?: number
  rate?: number
  filter?: RedriveFilter
  dry_run?: boolean
}

export const redriveRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { redrives, vhosts }) => {
  /** Who may not read its queue does not learn that there is one. */
  function visible({ params, identity }: FastifyRequest, task: RedriveTask): boolean {
    const vhost = vhostOf(params as object)
    if (identity!.login || (vhost !== undefined && vhost !== task.vhost)) return false
    return identity!.rights.allows('read', task.vhost, task.queue)
  }
  function find(request: FastifyRequest, id: string): RedriveTask {
    const task = redrives.get(id)
    if (task && visible(request, task)) return task
    throw new Problem('redrive_not_found', 'There is no such redrive, or there is none any more.')
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
          'Of a dead-letter queue, back to where they died, or elsewhere. Each is confirmed at its new place before it is acknowledged at the old one. It goes on by itself, at another instance where this one dies.',
        params: Type.Object({ queue: QueueNameSchema }),
        body: Type.Ref('RedriveOrder'),
        response: {
          202: json('Redrive', 'It has begun. `location` is where it can be looked at and stopped.'),
          ...problems(
            ...BROKER,
            'broker_blocked',
            'queue_not_found',
            'exchange_not_found',
            'precondition_failed',
            'stream_queue',
            'resource_locked',
            'unsupported_media_type',
            'message_too_large',
          ),
        },
      },
    },
    async (request, reply) => {
      const { rights, login } = request.identity!
      // It goes on as the gateway's own user, who may do more, and at instances that have no connection of his.
      if (login) throw new Problem('access_refused', 'Redrives are not for users of RabbitMQ: it could not decide on them.')
      const queue = nameOf(request.params, 'queue')
      const vhost = vhostOf(request.params) ?? vhosts.defaultName
      const order = orderOf(vhost, queue, request.body as Body)
      const kept = rights.write('write', vhost)
      if (kept !== 'everything' && kept.join('').length > MAX_RIGHTS)
        throw new Problem('access_refused', 'The rights of these credentials are more than a redrive can keep.')
      const task = await redrives.begin(order, kept)
      return reply.code(202).header('location', `/redrives/${task.id}`).send(redriveToJson(task))
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
        description: 'Those of the vhost whose queues may be read: all that run, and those that ended within a day.',
        response: { 200: json('Redrives', 'The oldest first.'), ...problems(...BROKER) },
      },
    },
    async (request) => {
      const vhost = vhostOf(request.params as object) ?? vhosts.defaultName
      return {
        redrives: redrives
          .list()
          .filter((task) => task.vhost === vhost && visible(request, task))
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
        summary: 'Look at a redrive',
        ...byId,
        response: { 200: json('Redrive', 'How far it is.'), ...problems(...BROKER, 'redrive_not_found') },
      },
    },
    async (request) => redriveToJson(find(request, request.params.id)),
  )

  app.delete(
    '/redrives/:id',
    {
      config: { access: readOfRedrive },
      schema: {
        operationId: 'stopRedrive',
        tags: ['redrives'],
        summary: 'Stop a redrive',
        description: 'At whatever instance it runs. What is moved stays moved. One that has ended is taken from the list.',
        ...byId,
        response: {
          204: { description: 'It has stopped, or does as soon as its instance hears of it.', type: 'null' },
          ...problems(...BROKER, 'broker_blocked', 'redrive_not_found'),
        },
      },
    },
    async (request, reply) => {
      await redrives.stop(find(request, request.params.id).id)
      return reply.code(204).send(null)
    },
  )
}

/** @throws Problem invalid_request, access_refused */
function orderOf(vhost: string, queue: string, { to: given, max, rate, filter, dry_run = false }: Body): RedriveRequest {
  const to = targetOf(given, queue)
  if (filter && Buffer.byteLength(JSON.stringify(filter)) > MAX_FILTER)
    throw invalidRequest('/body/filter', `is larger than ${MAX_FILTER} bytes`)
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

function targetOf(to: Body['to'], from: string): RedriveTarget | undefined {
  if (to === undefined) return undefined
  if (typeof to === 'string') return { queue: checkedQueue(to, '/body/to', from) }
  if (to.queue !== undefined) return { queue: checkedQueue(to.queue, '/body/to/queue', from) }
  const { exchange = '', routing_key: key } = to
  const detail = nameError(exchange)
  if (detail) throw invalidRequest('/body/to/exchange', detail)
  if (key === undefined) return { exchange }
  if (exchange === 'amq.default') checkedQueue(key, '/body/to/routing_key', from)
  const wrong = routingKeyError(key)
  if (wrong) throw invalidRequest('/body/to/routing_key', wrong)
  if (isReserved(key)) throw new Problem('access_refused', "That queue is the gateway's own.")
  return { exchange, routing_key: key }
}

function checkedQueue(queue: string, pointer: string, from: string): string {
  const detail = nameError(queue)
  if (detail) throw invalidRequest(pointer, detail)
  if (isReserved(queue)) throw new Problem('access_refused', "That queue is the gateway's own.")
  if (queue === from) throw invalidRequest(pointer, 'is the queue itself')
  return queue
}
