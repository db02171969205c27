// The HTTP application: plugins, then routes. Listens to nothing by itself.

import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import Fastify, { type FastifyInstance, LogController } from 'fastify'
import { operationRoutes, routes } from '../routes/index.js'
import type { Config } from './config.js'
import { access } from './plugins/access.js'
import { browsers } from './plugins/browsers.js'
import { context } from './plugins/context.js'
import { docs, openapi } from './plugins/docs.js'
import { clientError, errors, frameworkError } from './plugins/errors.js'
import { parsers } from './plugins/parsers.js'
import { rateLimit } from './plugins/rate-limit.js'
import { slowClients } from './plugins/slow-clients.js'
import { createServices, type Services } from './services.js'

/** AMQP names have 255 bytes, each up to three characters in a path; a 60 KiB header table is the most in a header. */
const MAX_NAME = 1024
const MAX_HEADERS = 128 * 1024

export interface App {
  readonly http: FastifyInstance
  /** Health and metrics on a port of their own, where OPERATIONS_PORT is set. */
  readonly operations: FastifyInstance | undefined
  readonly services: Services
  /** Answers what is under way, gives every lease back, closes all connections; each step has its deadline. */
  readonly close: () => Promise<void>
}

/**
 * Builds the application and begins to connect to the broker. Resolves without waiting for it.
 * @throws ConfigError where files that the configuration names have mistakes
 */
export async function buildApp(config: Config): Promise<App> {
  const http = server(config)
  const services = createServices(config, http.log)
  await http.register(context, services)
  await http.register(errors)
  await http.register(slowClients, services)
  await http.register(browsers, services)
  await http.register(access, services)
  await http.register(rateLimit, services)
  await http.register(parsers)
  await http.register(openapi)
  await http.register(routes, services)
  if (config.DOCS === 'on') await http.register(docs)
  const operations = config.OPERATIONS_PORT === undefined ? undefined : await operationsServer(config, services)
  return { http, operations, services, close: () => close(http, operations, services) }
}

/** Health and metrics alone, for those who watch: nobody is asked who he is. */
async function operationsServer(config: Config, services: Services): Promise<FastifyInstance> {
  const http = server(config)
  await http.register(context, services)
  await http.register(errors)
  await http.register(slowClients, services)
  await http.register(parsers)
  await http.register(operationRoutes, services)
  return http
}

function server(config: Config): FastifyInstance {
  const http: FastifyInstance = Fastify({
    logger:
      config.LOG_LEVEL === 'silent'
        ? false
        : { level: config.LOG_LEVEL, redact: ['req.headers.authorization', 'req.headers.cookie'] },
    logController: new LogController({ disableRequestLogging: true }),
    // One logger for all: every line that belongs to a request names its id itself.
    childLoggerFactory: (logger) => logger,
    genReqId: requestId,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    bodyLimit: 1024 * 1024,
    trustProxy: config.TRUST_PROXY.length > 0 && [...config.TRUST_PROXY],
    keepAliveTimeout: config.KEEP_ALIVE_TIMEOUT,
    routerOptions: { maxParamLength: 16 * MAX_NAME },
    http: {
      maxHeaderSize: MAX_HEADERS,
      headersTimeout: config.HEADERS_TIMEOUT,
      // How often Node looks for those that took too long.
      connectionsCheckingInterval: Math.min(5000, config.HEADERS_TIMEOUT / 2),
    },
    clientErrorHandler: clientError,
    frameworkErrors: (error, request, reply) => frameworkError(() => http, error, request as never, reply as never),
  }) as unknown as FastifyInstance
  http.server.maxHeadersCount = 0 // their bytes are limited; of more lines than this Node would drop the rest in silence
  http.server.maxConnections = config.MAX_CONNECTIONS
  return http
}

/** Requests first: they still need the broker. A connection that turns idle after its answer is not waited for. */
async function close(http: FastifyInstance, operations: FastifyInstance | undefined, services: Services): Promise<void> {
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

/** The client's own id where it is one, so that its log and ours meet. */
function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(given) ? given : randomUUID()
}
