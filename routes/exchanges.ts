// Declare, look up and delete exchanges; bind queues and exchanges to them.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ExchangeNameSchema, json, noContent, pathParams, QueueNameSchema, ref, strict } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { ExchangeDeclarationSchema, ExchangeSchema } from '../openapi/schemas/topology.js'
import { bindExchange, bindQueue, configure, declareExchange, readOrConfigure } from '../src/access/requirements.js'
import type { Services } from '../src/services.js'
import { argumentsInQuery, declareArgumentsOf, identityOf, nameOf, refuseReserved, routingKeyOf, vhostOf } from './params.js'

const exchangeParams = pathParams({ exchange: ExchangeNameSchema })
const bindingQuery = Type.Object(
  {
    routing_key: Type.Optional(Type.String({ description: 'The routing key of the binding. Empty by default.' })),
    arguments: Type.Optional(
      Type.String({
        description: 'The arguments of the binding, as JSON. For a headers exchange: `{"x-match": "all", "format": "pdf"}`.',
      }),
    ),
  },
  strict,
)
const bindingVerbs = [
  { method: 'PUT', verb: 'bind' },
  { method: 'DELETE', verb: 'unbind' },
] as const

/** Declare, look up, delete and bind exchanges. */
export const exchangeRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts }) => {
  app.put(
    '/exchanges/:exchange',
    {
      config: { access: declareExchange },
      schema: {
        operationId: 'declareExchange',
        tags: ['exchanges'],
        summary: 'Declare an exchange',
        params: exchangeParams,
        body: ref(ExchangeDeclarationSchema),
        response: {
          200: json(ExchangeSchema, 'An exchange with these properties already existed.'),
          201: json(ExchangeSchema, 'The exchange was created.'),
          ...problems(...BROKER, 'precondition_failed', 'unsupported_media_type', 'message_too_large', 'resource_locked'),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'exchange')
      const { type, durable = true, auto_delete: autoDelete = false, internal = false, arguments: args } = request.body
      const declaration = { type, durable, autoDelete, internal, arguments: declareArgumentsOf(args) }
      refuseReserved(declaration.arguments, 'alternate-exchange')
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
      const created = await vhost.topology.declareExchange(name, declaration)
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
        summary: 'Look up an exchange',
        params: exchangeParams,
        response: { 200: json(ExchangeSchema, 'The exchange exists.'), ...problems(...BROKER, 'exchange_not_found') },
      },
    },
    async (request) => {
      const name = nameOf(request.params, 'exchange')
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
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
        description: 'Succeeds if the exchange does not exist.',
        params: exchangeParams,
        querystring: Type.Object(
          {
            if_unused: Type.Optional(
              Type.Boolean({ default: false, description: 'true: delete the exchange only if nothing is bound to it.' }),
            ),
          },
          strict,
        ),
        response: { 204: noContent('The exchange does not exist any more.'), ...problems(...BROKER, 'precondition_failed') },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'exchange')
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
      await vhost.topology.deleteExchange(name, { ifUnused: request.query.if_unused ?? false })
      await vhost.publisher.closeChannel(name)
      return reply.code(204).send(null)
    },
  )

  for (const { method, verb } of bindingVerbs) {
    const response = {
      204: noContent(verb === 'bind' ? 'The binding exists.' : 'The binding does not exist any more.'),
      ...problems(...BROKER, 'queue_not_found', 'exchange_not_found', 'resource_locked'),
    }

    app.route({
      method,
      url: '/exchanges/:exchange/bindings/queues/:queue',
      config: { access: bindQueue },
      schema: {
        operationId: `${verb}Queue`,
        tags: ['exchanges'],
        summary: verb === 'bind' ? 'Bind a queue to an exchange' : 'Unbind a queue from an exchange',
        params: pathParams({ exchange: ExchangeNameSchema, queue: QueueNameSchema }),
        querystring: bindingQuery,
        response,
      },
      handler: async (request, reply) => {
        const binding = {
          source: nameOf(request.params, 'exchange'),
          destination: nameOf(request.params, 'queue'),
          routingKey: routingKeyOf(request.query),
          arguments: argumentsInQuery(request.query.arguments),
        }
        const { topology } = await vhosts.get(vhostOf(request.params), identityOf(request).login)
        await topology[verb]('queue', binding)
        return reply.code(204).send(null)
      },
    })

    app.route({
      method,
      url: '/exchanges/:exchange/bindings/exchanges/:destination',
      config: { access: bindExchange },
      schema: {
        operationId: `${verb}Exchange`,
        tags: ['exchanges'],
        summary: verb === 'bind' ? 'Bind an exchange to an exchange' : 'Unbind an exchange from an exchange',
        params: pathParams({ exchange: ExchangeNameSchema, destination: ExchangeNameSchema }),
        querystring: bindingQuery,
        response,
      },
      handler: async (request, reply) => {
        const binding = {
          source: nameOf(request.params, 'exchange'),
          destination: nameOf(request.params, 'destination'),
          routingKey: routingKeyOf(request.query),
          arguments: argumentsInQuery(request.query.arguments),
        }
        const { topology } = await vhosts.get(vhostOf(request.params), identityOf(request).login)
        await topology[verb]('exchange', binding)
        return reply.code(204).send(null)
      },
    })
  }
}

/** The name in a path and in JSON: the default exchange, whose AMQP name is empty, is `amq.default`. */
const exchangeToJson = (name: string): string => name || 'amq.default'
