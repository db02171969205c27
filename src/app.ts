// The HTTP application: plugins, then routes. Listens to nothing by itself.

import type { FastifyInstance } from 'fastify'
import { operationRoutes, routes } from '../routes/index.js'
import { serverCertificates } from './config/certificates.js'
import type { Config } from './config/index.js'
import { access } from './plugins/access.js'
import { bodies } from './plugins/bodies.js'
import { crossOrigin } from './plugins/cross-origin.js'
import { docs, openapi } from './plugins/docs.js'
import { errors } from './plugins/errors.js'
import { forwarded } from './plugins/forwarded.js'
import { httpRules } from './plugins/http-rules.js'
import { acceptJson, parsers } from './plugins/parsers.js'
import { rateLimit } from './plugins/rate-limit.js'
import { requestContext } from './plugins/request-context.js'
import { slowClients } from './plugins/slow-clients.js'
import { tickets } from './plugins/tickets.js'
import { createServer, renewCertificates } from './server.js'
import { createServices, type Services } from './services.js'

/** Connections that wait to be accepted: of a burst of long polls more than Node.js' 511; the kernel may allow fewer. */
export const LISTEN_BACKLOG = 4096

export interface App {
  readonly http: FastifyInstance
  /** Health and metrics on a port of their own, where OPERATIONS_PORT is set. */
  readonly operations: FastifyInstance | undefined
  readonly services: Services
  /** Reads the files again that may change: keys, certificates. */
  readonly reload: () => void
  /** Answers what is under way, gives every lease back, closes all connections; each step has its deadline. */
  readonly close: () => Promise<void>
}

/**
 * Builds the application and begins to connect to the broker. Resolves without waiting for it.
 * @throws ConfigError where files that the configuration names have mistakes
 */
export async function buildApp(config: Config): Promise<App> {
  const certificates = serverCertificates(config)
  const http = createServer(config, certificates)
  const services = createServices(config, http.log)
  await http.register(forwarded, services)
  await http.register(requestContext, services)
  await http.register(errors)
  await http.register(httpRules)
  await http.register(slowClients, services)
  await http.register(crossOrigin, services)
  await http.register(tickets, services)
  await http.register(access, services)
  await http.register(rateLimit, services)
  await http.register(bodies)
  await http.register(parsers)
  await http.register(openapi)
  // In a scope: for a path without a route no body is read, so that the client learns of the path first.
  await http.register(async (api) => {
    acceptJson(api)
    await api.register(routes, services)
  })
  if (config.DOCS === 'on') await http.register(docs, services)
  const operations = config.OPERATIONS_PORT === undefined ? undefined : await operationsServer(config, services)
  const certificate = certificates && renewCertificates(http, config, () => services.instances?.renew())
  return {
    http,
    operations,
    services,
    reload: () => {
      services.authentication.reload()
      certificate?.reload()
    },
    close: async () => {
      certificate?.close()
      await closeApp(http, operations, services)
    },
  }
}

/** Health and metrics alone, for monitoring: without authentication. */
async function operationsServer(config: Config, services: Services): Promise<FastifyInstance> {
  const http = createServer(config)
  await http.register(forwarded, services)
  await http.register(requestContext, services)
  await http.register(errors)
  await http.register(httpRules)
  await http.register(slowClients, services)
  await http.register(bodies)
  await http.register(parsers)
  await http.register(operationRoutes, services)
  return http
}

/** Requests first: they still need the broker. A connection that turns idle after its answer is not waited for. */
async function closeApp(http: FastifyInstance, operations: FastifyInstance | undefined, services: Services): Promise<void> {
  services.drain()
  const idle = setInterval(() => http.server.closeIdleConnections(), 20)
  const late = setTimeout(
    () => http.server.closeAllConnections(),
    services.config.PUBLISH_TIMEOUT + services.config.BROKER_TIMEOUT,
  )
  await http.close()
  await operations?.close()
  clearInterval(idle)
  clearTimeout(late)
  await services.close()
}
