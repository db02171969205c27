// Declare, look up, delete and purge queues.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { json, noContent, pathParams, QueueNameSchema, ref, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { DeclaredQueueSchema, PurgedSchema, QueueDeclarationSchema, QueueSchema } from '../openapi/schemas/topology.js'
import { configure, deadLetterQueue, declareQueue, purge, readOrConfigure } from '../src/access/requirements.js'
import type { Topology } from '../src/amqp/topology.js'
import type { FieldTable } from '../src/amqp/wire/field-table.js'
import { nameError } from '../src/messages/properties.js'
import { invalidRequest, Problem } from '../src/problems.js'
import type { Services } from '../src/services.js'
import { declareArgumentsOf, identityOf, nameOf, refuseReserved, vhostOf } from './params.js'

type QueueDeclaration = Static<typeof QueueDeclarationSchema>

const queueParams = pathParams({ queue: QueueNameSchema })

/** Declare, look up, delete and purge queues. */
export const queueRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, leases, policies }) => {
  app.put(
    '/queues/:queue',
    {
      config: { access: declareQueue },
      schema: {
        operationId: 'declareQueue',
        tags: ['queues'],
        summary: 'Declare a queue',
        params: queueParams,
        body: ref(QueueDeclarationSchema),
        response: {
          200: json(DeclaredQueueSchema, 'A queue with these properties already existed.'),
          201: json(DeclaredQueueSchema, 'The queue was created.'),
          ...problems(...BROKER, 'precondition_failed', 'resource_locked', 'unsupported_media_type', 'message_too_large'),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'queue')
      const { body } = request
      const args = declareArgumentsOf(body.arguments)
      if (body.durable === false && (body.type === 'quorum' || body.type === 'stream'))
        throw invalidRequest('/body/durable', `a ${body.type} queue is always durable: leave durable out`)
      refuseReserved(args, 'x-dead-letter-exchange', 'x-dead-letter-routing-key')
      if (body.type !== undefined) args['x-queue-type'] = body.type
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
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
        summary: 'Look up a queue',
        params: queueParams,
        response: { 200: json(QueueSchema, 'The queue exists.'), ...problems(...BROKER, 'queue_not_found', 'resource_locked') },
      },
    },
    async (request) => {
      const name = nameOf(request.params, 'queue')
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
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
        description: 'Deletes the queue, its messages and its retry policy. Succeeds if the queue does not exist.',
        params: queueParams,
        querystring: Type.Object(
          {
            if_unused: Type.Optional(
              Type.Boolean({ default: false, description: 'true: delete the queue only if it has no consumers.' }),
            ),
            if_empty: Type.Optional(
              Type.Boolean({ default: false, description: 'true: delete the queue only if it has no messages.' }),
            ),
          },
          strict,
        ),
        response: {
          204: noContent('The queue does not exist any more.'),
          ...problems(...BROKER, 'precondition_failed', 'resource_locked', 'broker_blocked', 'overloaded'),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'queue')
      const { if_unused: ifUnused = false, if_empty: ifEmpty = false } = request.query
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
      await vhost.topology.deleteQueue(name, { ifUnused, ifEmpty })
      leases.queueDeleted(vhost.name, name)
      await policies.delete(vhost.name, name)
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
        summary: 'Purge a queue',
        description: 'Deletes all messages of the queue except those under a lease.',
        params: queueParams,
        response: {
          200: json(PurgedSchema, 'The messages were deleted.'),
          ...problems(...BROKER, 'queue_not_found', 'stream_queue', 'resource_locked'),
        },
      },
    },
    async (request) => {
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
      return { message_count: await vhost.topology.purgeQueue(nameOf(request.params, 'queue')) }
    },
  )
}

/** @returns the name of the queue for dead letters. @throws Problem invalid_request */
function checkDeadLetters(name: string, { type }: QueueDeclaration, args: FieldTable): string {
  if (type === 'stream') throw invalidRequest('/body/dead_letter', 'is not for a stream')
  const own = ['x-dead-letter-exchange', 'x-dead-letter-routing-key'].find((argument) => argument in args)
  if (own) throw invalidRequest('/body/dead_letter', `cannot be combined with the argument ${own}`)
  const dead = deadLetterQueue(name)
  const detail = nameError(dead)
  if (detail) throw invalidRequest('/path/queue', `with .dead appended ${detail}`)
  return dead
}

/** Declares the queue for dead letters, unless one of that name exists, of whatever type. */
async function declareDeadLetters(topology: Topology, name: string, { type, durable = true }: QueueDeclaration): Promise<void> {
  const exists = await topology.lookUpQueue(name).then(
    () => true,
    (error) => {
      if (error instanceof Problem && error.code === 'queue_not_found') return false
      throw error
    },
  )
  // By default RabbitMQ 4 drops a message that was returned to a quorum queue 20 times.
  const limit = type === 'quorum' ? { 'x-delivery-limit': 1_000_000 } : {}
  const args: FieldTable = type === undefined ? {} : { 'x-queue-type': type, ...limit }
  if (!exists) await topology.declareQueue(name, { durable, autoDelete: false, arguments: args })
}
