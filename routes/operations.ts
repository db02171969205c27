// Health and metrics.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { openProblems } from '../openapi/schemas/problem.js'
import { openToAll } from '../src/access/requirements.js'
import type { Services } from '../src/services.js'

const json = (id: string, description: string) => ({ description, content: { 'application/json': { schema: Type.Ref(id) } } })

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
        summary: 'Whether the process works',
        response: { 200: json('Health', 'It does.'), ...openProblems() },
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
        summary: 'Whether it should get traffic',
        description: 'Not while the broker is away or accepts no messages, nor while the gateway drains.',
        response: { 200: json('Readiness', 'Ready.'), ...openProblems(), 503: json('Readiness', 'Not ready, and why.') },
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
        summary: 'Metrics for Prometheus',
        response: {
          200: { description: 'In the text format.', content: { 'text/plain': { schema: Type.String() } } },
          ...openProblems(),
        },
      },
    },
    async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.text()),
  )
}
