// What every request and every response has: an id, no caching, no way to pass for a page, a line in the metrics, and where asked
// for one in the log.

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Services } from '../services.js'
import { requestPath, securityHeaders } from './errors.js'

export const requestContext = fp(async (app: FastifyInstance, services: Services) => {
  const { config, metrics } = services
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id).headers(securityHeaders)
    // Whoever keeps the connection for its next request would find it closed.
    if (services.draining) reply.header('connection', 'close')
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
