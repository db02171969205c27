// Settle, extend, look at; one or many.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { LeaseIdParamSchema } from '../openapi/schemas/lease.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { readOfLease } from '../src/access/requirements.js'
import type { LeaseCommand, LeaseResult } from '../src/leases/commands.js'
import type { Caller } from '../src/leases/leases.js'
import { catalogue, invalidRequest, isRetryable, Problem } from '../src/problems.js'
import type { Services } from '../src/services.js'
import { delayOf, durationOf, vhostOf } from './params.js'

const params = Type.Object({ id: LeaseIdParamSchema })
const failures = problems(
  ...BROKER,
  'lease_not_found',
  'lease_gone',
  'already_settled',
  'max_lease_exceeded',
  'settle_outcome_unknown',
  'lease_unreachable',
  'unsupported_media_type',
  'message_too_large',
)
const ok = (id: string, description: string) => ({ description, content: { 'application/json': { schema: Type.Ref(id) } } })
const done = (description: string) => ({ description, type: 'null' })
const MAX_BULK = 1000
/** Beyond every limit that an extension can meet, so that max_lease_exceeded is what answers. */
const FAR_FUTURE_MS = 10 * 365 * 24 * 3_600_000

export const leaseRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { leases }) => {
  const askerOf = ({ params, identity }: FastifyRequest): Caller => ({
    vhost: vhostOf(params as object),
    login: identity!.login,
    mayRead: (vhost, queue) => identity!.rights.allows('read', vhost, queue),
  })

  async function one(request: FastifyRequest, command: LeaseCommand) {
    const [result] = await leases.run([command], askerOf(request))
    if (!result!.ok) throw new Problem(result!.code, result!.detail)
    return result!.view
  }

  app.post(
    '/leases/:id/ack',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'ack',
        tags: ['leases'],
        summary: 'The work is done',
        description: 'RabbitMQ deletes the message. The answer comes once it has taken the acknowledgement.',
        params,
        body: Type.Ref('Nothing'),
        response: { 204: done('RabbitMQ has taken it.'), ...failures },
      },
    },
    async (request, reply) => {
      await one(request, { id: request.params.id, op: 'settle', verdict: 'ack' })
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/leases/:id/nack',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'nack',
        tags: ['leases'],
        summary: 'Give the message back',
        description:
          'To its queue, at once or after a `delay`, or with `"requeue": false` to the dead-letter exchange of the queue; where it has none, the message is dropped.',
        params,
        body: Type.Ref('Nack'),
        response: { 204: done('RabbitMQ has it back.'), ...failures },
      },
    },
    async (request, reply) => {
      await one(request, nack({ id: request.params.id, ...(request.body as object) }, '/body'))
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/leases/:id/extend',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'extend',
        tags: ['leases'],
        summary: 'Ask for more time',
        params,
        body: Type.Ref('Extend'),
        response: { 200: ok('Extension', 'It ends later.'), ...failures },
      },
    },
    async (request) => {
      const view = await one(request, extension(request.params.id, request.body as { lease?: string | number }, '/body/lease'))
      return { id: view!.id, expires_at: view!.expires_at }
    },
  )

  app.get(
    '/leases/:id',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'getLease',
        tags: ['leases'],
        summary: 'Look at a lease',
        params,
        response: { 200: ok('Lease', 'It is open.'), ...failures },
      },
    },
    async (request) => one(request, { id: request.params.id, op: 'get' }),
  )

  app.post(
    '/leases/settle',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'settleMany',
        tags: ['leases'],
        summary: 'Settle and extend many leases',
        body: Type.Ref('Settle'),
        response: { 200: ok('SettleResults', 'A result for each, in the order ack, nack, extend.'), ...failures },
      },
    },
    async (request) => {
      const body = request.body as {
        ack?: string[]
        nack?: NackItem[]
        extend?: { id: string; lease?: string | number }[]
      }
      const commands: LeaseCommand[] = [
        ...(body.ack ?? []).map((id) => ({ id, op: 'settle' as const, verdict: 'ack' as const })),
        ...(body.nack ?? []).map((item, index) => nack(item, `/body/nack/${index}`)),
        ...(body.extend ?? []).map((item, index) => extension(item.id, item, `/body/extend/${index}/lease`)),
      ]
      if (commands.length > MAX_BULK)
        throw invalidRequest('/body', `names ${commands.length} leases, and ${MAX_BULK} is the limit`)
      const results = await leases.run(commands, askerOf(request))
      const settled = results.filter(({ ok }) => ok).length
      return {
        settled,
        failed: results.length - settled,
        results: results.map((result, index) => settleResult(commands[index]!, result)),
      }
    },
  )
}

interface NackItem {
  id: string
  requeue?: boolean
  delay?: string | number
}

function nack({ id, requeue = true, delay: text }: NackItem, pointer: string): LeaseCommand {
  const delay = delayOf(text, `${pointer}/delay`)
  if (delay === undefined) return { id, op: 'settle', verdict: requeue ? 'requeue' : 'reject' }
  if (!requeue) throw invalidRequest(`${pointer}/delay`, 'is for messages that go back to their queue')
  return { id, op: 'settle', verdict: 'later', delay }
}

function extension(id: string, { lease }: { lease?: string | number }, pointer: string): LeaseCommand {
  return lease === undefined ? { id, op: 'extend' } : { id, op: 'extend', lease: durationOf(lease, pointer, 1000, FAR_FUTURE_MS) }
}

const SETTLED_STATUS = { ack: 'acked', requeue: 'nacked', reject: 'nacked', later: 'nacked' } as const

function settleResult(command: LeaseCommand, result: LeaseResult) {
  const { id } = command
  if (result.ok) {
    const status = command.op === 'settle' ? SETTLED_STATUS[command.verdict] : 'extended'
    return { id, status, ...(command.op === 'extend' && result.view && { expires_at: result.view.expires_at }) }
  }
  const { code, detail } = result
  return { id, status: catalogue[code].lease ?? 'unknown', problem: { code, detail, retryable: isRetryable(code) } }
}
