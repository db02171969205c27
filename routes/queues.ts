// Declare, look at, delete and purge queues.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { QueueNameSchema, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { configure, deadLetterQueue, declareQueue, purge, readOrConfigure } from '../src/access/requirements.js'
import type { Topology } from '../src/amqp/topology.js'
import type { FieldTable } from '../src/amqp/wire/field-table.js'
import { isReserved } from '../src/amqp/wire/reserved.js'
import { nameError } from '../src/messages/properties.js'
import { invalidRequest, Problem } from '../src/problems.js'
import type { Services } from '../src/services.js'
import { argumentsOf, nameOf, vhostOf } from './params.js'

const params = Type.Object({ queue: QueueNameSchema })
const json = (id: string, description: string) => ({ description, content: { 'application/json': { schema: Type.Ref(id) } } })

export const queueRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, leases }) => {
  app.put(
    '/queues/:queue',
    {
      config: { access: declareQueue },
      schema: {
        operationId: 'declareQueue',
        tags: ['queues'],
        summary: 'Declare a queue',
        params,
        body: Type.Ref('QueueDeclaration'),
        response: {
          200: json('DeclaredQueue', 'It was there already, and alike.'),
          201: json('DeclaredQueue', 'It is new.'),
          ...problems(...BROKER, 'precondition_failed', 'resource_locked', 'unsupported_media_type', 'message_too_large'),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'queue')
      const body = request.body as Declaration
      const args = argumentsOf(body.arguments, '/body/arguments')
      const deadLetterKey = args['x-dead-letter-routing-key']
      if (typeof deadLetterKey === 'string' && isReserved(deadLetterKey))
        throw new Problem('access_refused', "That queue is the gateway's own.")
      if (body.type !== undefined) args['x-queue-type'] = body.type
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      if (body.dead_letter) {
        const dead = checkDeadLetters(name, body, args)
        await declareDeadLetters(vhost.topology, dead, body)
        Object.assign(args, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead })
      }
      const created = await vhost.topology.declareQueue(name, {
        durable: body.durable ?? true,
        autoDelete: body.auto_delete ?? false,
        arguments: args,
      })
      return reply.code(created ? 201 : 200).send({ name, vhost: vhost.name })
    },
  )

  app.get(
    '/queues/:queue',
    {
      config: { access: readOrConfigure('queue') },
      schema: {
        operationId: 'getQueue',
        tags: ['queues'],
        summary: 'Look at a queue',
        params,
        response: { 200: json('Queue', 'It is there.'), ...problems(...BROKER, 'queue_not_found', 'resource_locked') },
      },
    },
    async (request) => {
      const name = nameOf(request.params, 'queue')
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      const { messageCount, consumerCount } = await vhost.topology.lookUpQueue(name)
      return { name, vhost: vhost.name, message_count: messageCount, consumer_count: consumerCount }
    },
  )

  app.delete(
    '/queues/:queue',
    {
      config: { access: configure('queue') },
      schema: {
        operationId: 'deleteQueue',
        tags: ['queues'],
        summary: 'Delete a queue',
        description: 'With its messages. A queue that is not there is deleted already.',
        params,
        querystring: Type.Object(
          {
            if_unused: Type.Optional(Type.Boolean({ default: false, description: 'Only if nobody consumes it.' })),
            if_empty: Type.Optional(Type.Boolean({ default: false, description: 'Only if it has no messages.' })),
          },
          strict,
        ),
        response: {
          204: { description: 'It is gone.', type: 'null' },
          ...problems(...BROKER, 'precondition_failed', 'resource_locked'),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'queue')
      const { if_unused: ifUnused = false, if_empty: ifEmpty = false } = request.query
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      await vhost.topology.deleteQueue(name, { ifUnused, ifEmpty })
      leases.queueDeleted(vhost.name, name)
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/queues/:queue/messages',
    {
      config: { access: purge('queue') },
      schema: {
        operationId: 'purgeQueue',
        tags: ['queues'],
        summary: 'Drop the messages of a queue',
        description: 'Those that are under a lease stay.',
        params,
        response: {
          200: json('Purged', 'They are gone.'),
          ...problems(...BROKER, 'queue_not_found', 'stream_queue', 'resource_locked'),
        },
      },
    },
    async (request) => {
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      return { message_count: await vhost.topology.purgeQueue(nameOf(request.params, 'queue')) }
    },
  )
}

interface Declaration {
  type?: string
  durable?: boolean
  auto_delete?: boolean
  dead_letter?: boolean
  arguments?: object
}

/** @returns the name of the queue for dead letters. @throws Problem invalid_request */
function checkDeadLetters(name: string, { type }: Declaration, args: FieldTable): string {
  if (type === 'stream') throw invalidRequest('/body/dead_letter', 'is not for a stream')
  const own = ['x-dead-letter-exchange', 'x-dead-letter-routing-key'].find((argument) => argument in args)
  if (own) throw invalidRequest('/body/dead_letter', `and the argument ${own} are one too many`)
  const dead = deadLetterQueue(name)
  const detail = nameError(dead)
  if (detail) throw invalidRequest('/path/queue', `with .dead after it ${detail}`)
  return dead
}

/** One that is there already stays as it is, whatever its type. */
async function declareDeadLetters(topology: Topology, name: string, { type, durable = true }: Declaration): Promise<void> {
  const isThere = await topology.lookUpQueue(name).then(
    () => true,
    (error) => {
      if (error instanceof Problem && error.code === 'queue_not_found') return false
      throw error
    },
  )
  // RabbitMQ 4 drops what was looked at twenty times, unless told otherwise.
  const limit = type === 'quorum' ? { 'x-delivery-limit': 1_000_000 } : {}
  const args: FieldTable = type === undefined ? {} : { 'x-queue-type': type, ...limit }
  if (!isThere) await topology.declareQueue(name, { durable, autoDelete: false, arguments: args })
}
