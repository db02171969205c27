// Health and metrics.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { json, written } from '../openapi/schemas/common.js'
import { HealthSchema, ReadinessSchema } from '../openapi/schemas/operations.js'
import { openProblems } from '../openapi/schemas/problem.js'
import { openToAll } from '../src/access/requirements.js'
import type { Services } from '../src/services.js'

/** Health of the process and its readiness for traffic. */
export const healthRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { notReady }) => {
  app.get(
    '/health/live',
    {
      exposeHeadRoute: true,
      config: { access: openToAll },
      schema: {
        operationId: 'live',
        tags: ['operations'],
        security: [],
        summary: 'Check that the process is alive',
        response: { 200: json(HealthSchema, 'The process is alive.'), ...openProblems() },
      },
    },
    async () => ({ status: 'live' }),
  )

  app.get(
    '/health/ready',
    {
      exposeHeadRoute: true,
      config: { access: openToAll },
      schema: {
        operationId: 'ready',
        tags: ['operations'],
        security: [],
        summary: 'Check that the gateway is ready for traffic',
        description:
          'The gateway is not ready while RabbitMQ is unreachable or accepts no messages, and while the gateway shuts down.',
        response: {
          200: json(ReadinessSchema, 'The gateway is ready.'),
          ...openProblems(),
          503: json(ReadinessSchema, 'The gateway is not ready; `reason` says why.'),
        },
      },
    },
    async (_request, reply) => {
      const reason = notReady()
      if (reason === undefined) return { status: 'ready' as const }
      return reply
        .code(503)
        .header('retry-after', '1')
        .send({ status: 'not_ready' as const, reason })
    },
  )
}

/** Metrics for Prometheus. Adds no route if METRICS is off. */
export const metricRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { config, metrics }) => {
  if (config.METRICS === 'off') return
  app.get(
    '/metrics',
    {
      config: { access: openToAll },
      schema: {
        operationId: 'metrics',
        tags: ['operations'],
        security: [],
        summary: 'Get metrics for Prometheus',
        response: {
          200: written<string>('The metrics, in the text format of Prometheus.', { 'text/plain': { schema: Type.String() } }),
          ...openProblems(),
        },
      },
    },
    async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.text()),
  )
}
