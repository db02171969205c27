// The table of all routes.

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

export async function routes(app: FastifyInstance, services: Services): Promise<void> {
  // A query parameter that a route doesn't have is a mistake to be told, there too where it has none at all.
  app.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, querystring: route.schema?.querystring ?? Type.Object({}, strict) }
  })
  for (const plugin of inVhosts) await app.register(plugin, services)
  await app.register(healthRoutes, services)
  await app.register(instanceRoutes, services)
  if (services.config.OPERATIONS_PORT === undefined) await app.register(metricRoutes, services)

  // The same once more for every other vhost; the document says so with a server variable instead of every path twice.
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

/** What is on the port for operations. */
export async function operationRoutes(app: FastifyInstance, services: Services): Promise<void> {
  await app.register(healthRoutes, services)
  await app.register(metricRoutes, services)
  await app.register(instanceRoutes, services)
}
