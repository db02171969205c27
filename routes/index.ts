// All routes of the gateway.

import accepts from '@fastify/accepts'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { strict } from '../openapi/schemas/common.js'
import type { Services } from '../src/services.js'
import { batchRoutes } from './batch.js'
import { exchangeRoutes } from './exchanges.js'
import { instanceRoutes } from './instances.js'
import { leaseRoutes } from './leases.js'
import { healthRoutes, metricRoutes } from './operations.js'
import { publishRoutes } from './publish.js'
import { queueRoutes } from './queues.js'
import { receiveRoutes } from './receive.js'
import { redriveRoutes } from './redrives.js'
import { retryPolicyRoutes } from './retry-policies.js'
import { rpcRoutes } from './rpc.js'
import { streamRoutes } from './stream.js'
import { subscriptionRoutes } from './subscriptions.js'

/** The routes that exist at the root for the connection's own vhost, and under `/vhosts/:vhost` for any other. */
const inVhosts = [
  publishRoutes,
  receiveRoutes,
  batchRoutes,
  streamRoutes,
  rpcRoutes,
  leaseRoutes,
  queueRoutes,
  retryPolicyRoutes,
  exchangeRoutes,
  redriveRoutes,
  subscriptionRoutes,
]

/** Registers every route of the API, and on the same port those for operations unless they have a port of their own. */
export async function routes(app: FastifyInstance, services: Services): Promise<void> {
  // For routes that choose the form of their answer by the Accept header.
  await app.register(accepts)
  // An unknown query parameter is an error, also on a route that has none.
  app.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, querystring: route.schema?.querystring ?? Type.Object({}, strict) }
  })
  for (const plugin of inVhosts) await app.register(plugin, services)
  await app.register(healthRoutes, services)
  await app.register(instanceRoutes, services)
  if (services.config.OPERATIONS_PORT === undefined) await app.register(metricRoutes, services)

  // In the document a server variable stands for these, so that it does not list every path twice.
  await app.register(
    async (other) => {
      other.addHook('onRoute', (route) => {
        route.schema = { ...route.schema, hide: true }
      })
      for (const plugin of inVhosts) await other.register(plugin, services)
    },
    { prefix: '/vhosts/:vhost' },
  )
}

/** Registers the routes of the port for operations: health, metrics, and other instances. */
export async function operationRoutes(app: FastifyInstance, services: Services): Promise<void> {
  await app.register(healthRoutes, services)
  await app.register(metricRoutes, services)
  await app.register(instanceRoutes, services)
}
