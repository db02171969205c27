// What every request and response has: an id, security headers, a line in the metrics, and one in the log if configured.

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Services } from '../services.js'
import { requestPath, securityHeaders } from './errors.js'

/** Sets the headers of every response, counts every request in the metrics, and logs it if LOG_REQUESTS is all. */
export const requestContext = fp(async (app: FastifyInstance, services: Services) => {
  const { config, metrics } = services
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id).headers(securityHeaders)
    // A client that kept the connection for its next request would find it closed.
    if (services.ending) reply.header('connection', 'close')
    done()
  })

  const logAll = config.LOG_REQUESTS === 'all'
  app.addHook('onResponse', (request, reply, done) => {
    metrics.request(request.method, request.routeOptions.url ?? 'none', reply.statusCode, reply.elapsedTime / 1000)
    if (logAll) {
      const { method, id } = request
      const fields = {
        request_id: id,
        method,
        path: requestPath(request),
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime * 10) / 10,
      }
      app.log.info(fields, 'request')
    }
    done()
  })
})
