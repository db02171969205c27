// Declare, look at and delete exchanges; bind queues and exchanges to them.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ExchangeNameSchema, QueueNameSchema, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { bindExchange, bindQueue, configure, declareExchange, readOrConfigure } from '../src/access/requirements.js'
import type { Binding } from '../src/amqp/topology.js'
import type { Services } from '../src/services.js'
import { argumentsInQuery, argumentsOf, nameOf, routingKeyOf, vhostOf } from './params.js'

const params = Type.Object({ exchange: ExchangeNameSchema })
const json = (id: string, description: string) => ({ description, content: { 'application/json': { schema: Type.Ref(id) } } })
const bindingQuery = Type.Object(
  {
    routing_key: Type.Optional(Type.String({ description: 'Empty where it is not given.' })),
    arguments: Type.Optional(
      Type.String({ description: 'JSON, as for a headers exchange: `{"x-match": "all", "format": "pdf"}`' }),
    ),
  },
  strict,
)

export const exchangeRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts }) => {
  app.put(
    '/exchanges/:exchange',
    {
      config: { access: declareExchange },
      schema: {
        operationId: 'declareExchange',
        tags: ['exchanges'],
        summary: 'Declare an exchange',
        params,
        body: Type.Ref('ExchangeDeclaration'),
        response: {
          200: json('Exchange', 'It was there already, and alike.'),
          201: json('Exchange', 'It is new.'),
          ...problems(...BROKER, 'precondition_failed', 'unsupported_media_type', 'message_too_large', 'resource_locked'),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'exchange')
      const body = request.body as {
        type: string
        durable?: boolean
        auto_delete?: boolean
        internal?: boolean
        arguments?: object
      }
      const args = argumentsOf(body.arguments, '/body/arguments')
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      const created = await vhost.topology.declareExchange(name, {
        type: body.type,
        durable: body.durable ?? true,
        autoDelete: body.auto_delete ?? false,
        internal: body.internal ?? false,
        arguments: args,
      })
      return reply.code(created ? 201 : 200).send({ name: exchangeToJson(name), vhost: vhost.name })
    },
  )

  app.get(
    '/exchanges/:exchange',
    {
      config: { access: readOrConfigure('exchange') },
      schema: {
        operationId: 'getExchange',
        tags: ['exchanges'],
        summary: 'Look at an exchange',
        params,
        response: { 200: json('Exchange', 'It is there.'), ...problems(...BROKER, 'exchange_not_found') },
      },
    },
    async (request) => {
      const name = nameOf(request.params, 'exchange')
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      await vhost.topology.lookUpExchange(name)
      return { name: exchangeToJson(name), vhost: vhost.name }
    },
  )

  app.delete(
    '/exchanges/:exchange',
    {
      config: { access: configure('exchange') },
      schema: {
        operationId: 'deleteExchange',
        tags: ['exchanges'],
        summary: 'Delete an exchange',
        description: 'One that is not there is deleted already.',
        params,
        querystring: Type.Object(
          { if_unused: Type.Optional(Type.Boolean({ default: false, description: 'Only if nothing is bound to it.' })) },
          strict,
        ),
        response: { 204: { description: 'It is gone.', type: 'null' }, ...problems(...BROKER, 'precondition_failed') },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'exchange')
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      await vhost.topology.deleteExchange(name, { ifUnused: request.query.if_unused ?? false })
      await vhost.publisher.closeChannel(name)
      return reply.code(204).send(null)
    },
  )

  for (const to of ['queue', 'exchange'] as const) {
    const part = to === 'queue' ? 'queue' : 'destination'
    const url =
      to === 'queue' ? '/exchanges/:exchange/bindings/queues/:queue' : '/exchanges/:exchange/bindings/exchanges/:destination'
    const Destination =
      to === 'queue'
        ? Type.Object({ exchange: ExchangeNameSchema, queue: QueueNameSchema })
        : Type.Object({ exchange: ExchangeNameSchema, destination: ExchangeNameSchema })
    for (const method of ['PUT', 'DELETE'] as const) {
      const verb = method === 'PUT' ? 'bind' : 'unbind'
      app.route({
        method,
        url,
        config: { access: to === 'queue' ? bindQueue : bindExchange },
        schema: {
          operationId: `${verb}${to === 'queue' ? 'Queue' : 'Exchange'}`,
          tags: ['exchanges'],
          summary: method === 'PUT' ? `Bind a ${to} to an exchange` : `Take the binding of a ${to} away`,
          params: Destination,
          querystring: bindingQuery,
          response: {
            204: { description: method === 'PUT' ? 'Bound.' : 'Not bound.', type: 'null' },
            ...problems(...BROKER, 'queue_not_found', 'exchange_not_found', 'resource_locked'),
          },
        },
        handler: async (request, reply) => {
          const binding: Binding = {
            source: nameOf(request.params as object, 'exchange'),
            destination: nameOf(request.params as object, part),
            routingKey: routingKeyOf(request.query as object),
            arguments: argumentsInQuery((request.query as { arguments?: string }).arguments),
          }
          const { topology } = await vhosts.get(vhostOf(request.params as object), request.identity!.login)
          await topology[verb](to, binding)
          return reply.code(204).send(null)
        },
      })
    }
  }
}

/** As it is written in a path: the default exchange has no name of its own. */
const exchangeToJson = (name: string): string => name || 'amq.default'
