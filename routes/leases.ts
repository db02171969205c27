// Settle, extend and look up leases, one or many at a time.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from 'typebox'
import { json, noContent, pathParams, ref } from '../openapi/schemas/common.js'
import {
  ExtendSchema,
  ExtensionSchema,
  LeaseIdParamSchema,
  LeaseSchema,
  NackSchema,
  NothingSchema,
  SettleResultsSchema,
  SettleSchema,
} from '../openapi/schemas/lease.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import type { Identity } from '../src/access/identity.js'
import { readOfLease } from '../src/access/requirements.js'
import type { LeaseCommand, LeaseResult, LeaseView } from '../src/leases/commands.js'
import type { Caller } from '../src/leases/leases.js'
import { unreachable } from '../src/lib/unreachable.js'
import { catalogue, invalidRequest, isRetryable, Problem } from '../src/problems.js'
import type { Services } from '../src/services.js'
import { delayOf, durationOf, identityOf, present, vhostOf } from './params.js'

const leaseParams = pathParams({ id: LeaseIdParamSchema })
const anyVhost = pathParams({})
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
const MAX_BULK = 1000
const MAX_REASON_BYTES = 1024
const MIN_LEASE_MS = 1000
/** Beyond every possible lease, so that the answer to a longer extension is max_lease_exceeded and not invalid_request. */
const FAR_FUTURE_MS = 10 * 365 * 24 * 3_600_000

/** Settle, extend and look up leases, at any instance. */
export const leaseRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { leases }) => {
  /** What a route needs of its request to act on leases. */
  interface LeaseRequest {
    params: { vhost?: string }
    identity: Identity | null
  }

  function callerOf(request: LeaseRequest): Caller {
    const { login, rights } = identityOf(request)
    return { vhost: vhostOf(request.params), login, mayRead: (vhost, queue) => rights.allows('read', vhost, queue) }
  }

  /** Runs one command, and resolves with the lease if it is still open. @throws Problem the reason why it failed */
  async function run(request: LeaseRequest, command: LeaseCommand): Promise<LeaseView | undefined> {
    const [first] = await leases.run([command], callerOf(request))
    const result = present(first, 'the result of a lease command')
    if (!result.ok) throw new Problem(result.code, result.detail)
    return result.view
  }

  app.post(
    '/leases/:id/ack',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'ack',
        tags: ['leases'],
        summary: 'Acknowledge a message',
        description: 'RabbitMQ deletes the message. The answer comes once RabbitMQ has processed the ack.',
        params: leaseParams,
        body: ref(NothingSchema),
        response: { 204: noContent('RabbitMQ has processed the ack.'), ...failures },
      },
    },
    async (request, reply) => {
      await run(request, { id: request.params.id, op: 'settle', action: 'ack' })
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
        summary: 'Give a message back',
        description:
          'The message returns to its queue, at once or after a `delay`. With `"requeue": false` it goes to the dead-letter exchange of its queue, or is dropped if the queue has none.',
        params: leaseParams,
        body: ref(NackSchema),
        response: { 204: noContent('RabbitMQ has processed the nack.'), ...failures },
      },
    },
    async (request, reply) => {
      await run(request, nack(request.params.id, request.body, '/body'))
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
        summary: 'Extend a lease',
        description: 'The new duration counts from now.',
        params: leaseParams,
        body: ref(ExtendSchema),
        response: { 200: json(ExtensionSchema, 'The lease has a new end.'), ...failures },
      },
    },
    async (request) => {
      const view = await run(request, extension(request.params.id, request.body, '/body/lease'))
      const { id, expires_at } = present(view, 'the extended lease')
      return { id, expires_at }
    },
  )

  app.get(
    '/leases/:id',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'getLease',
        tags: ['leases'],
        summary: 'Look up a lease',
        params: leaseParams,
        response: { 200: json(LeaseSchema, 'The lease is open.'), ...failures },
      },
    },
    async (request) => present(await run(request, { id: request.params.id, op: 'get' }), 'the open lease'),
  )

  app.post(
    '/leases/settle',
    {
      config: { access: readOfLease },
      schema: {
        operationId: 'settleMany',
        tags: ['leases'],
        summary: 'Settle and extend many leases',
        params: anyVhost,
        body: ref(SettleSchema),
        response: {
          200: json(SettleResultsSchema, 'One result for each lease, in the order ack, nack, extend.'),
          ...failures,
        },
      },
    },
    async (request) => {
      const { ack = [], nack: nacks = [], extend = [] } = request.body
      const commands: LeaseCommand[] = [
        ...ack.map((id) => ({ id, op: 'settle' as const, action: 'ack' as const })),
        ...nacks.map((item, index) => nack(item.id, item, `/body/nack/${index}`)),
        ...extend.map((item, index) => extension(item.id, item, `/body/extend/${index}/lease`)),
      ]
      if (commands.length > MAX_BULK) throw invalidRequest('/body', `has ${commands.length} leases, and ${MAX_BULK} is the limit`)
      const results = await leases.run(commands, callerOf(request))
      const settled = results.filter(({ ok }) => ok).length
      return {
        settled,
        failed: results.length - settled,
        results: commands.map((command, index) => settleResult(command, present(results[index], 'a result'))),
      }
    },
  )
}

function nack(id: string, { requeue = true, delay: text, reason }: Static<typeof NackSchema>, pointer: string): LeaseCommand {
  const delay = delayOf(text, `${pointer}/delay`)
  if (reason !== undefined && Buffer.byteLength(reason) > MAX_REASON_BYTES)
    throw invalidRequest(`${pointer}/reason`, `has more than ${MAX_REASON_BYTES} bytes`)
  const failure = reason ? { failure: { reason, by: 'nack' as const } } : {}
  if (delay === undefined) return { id, op: 'settle', action: requeue ? 'requeue' : 'reject', ...failure }
  if (!requeue) throw invalidRequest(`${pointer}/delay`, 'is for messages that go back to their queue')
  return { id, op: 'settle', action: 'later', delay, ...failure }
}

function extension(id: string, { lease }: Static<typeof ExtendSchema>, pointer: string): LeaseCommand {
  if (lease === undefined) return { id, op: 'extend' }
  return { id, op: 'extend', lease: durationOf(lease, pointer, MIN_LEASE_MS, FAR_FUTURE_MS) }
}

const SETTLED_STATUS = { ack: 'acked', requeue: 'nacked', reject: 'nacked', later: 'nacked' } as const

function settleResult(command: LeaseCommand, result: LeaseResult): Static<typeof SettleResultsSchema>['results'][number] {
  const { id, op } = command
  if (!result.ok) {
    const { code, detail } = result
    return { id, status: catalogue[code].lease ?? 'unknown', problem: { code, detail, retryable: isRetryable(code) } }
  }
  switch (op) {
    case 'settle':
      return { id, status: SETTLED_STATUS[command.action] }
    case 'extend':
      return { id, status: 'extended', ...(result.view && { expires_at: result.view.expires_at }) }
    case 'get':
      throw new Error('A bulk settle does not look leases up.')
    default:
      return unreachable(op)
  }
}
