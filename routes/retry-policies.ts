// Retry policies: what happens to messages that return to a queue.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from 'typebox'
import { json, noContent, pathParams, QueueNameSchema, ref } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { RetryPolicyDeclarationSchema, RetryPolicySchema } from '../openapi/schemas/retry.js'
import { configure, readOrConfigure } from '../src/access/requirements.js'
import type { Topology } from '../src/amqp/topology.js'
import { streamQueueProblem } from '../src/amqp/wire/errors.js'
import { invalidRequest, Problem } from '../src/problems.js'
import type { RetryPolicy } from '../src/retry/policies.js'
import type { Services } from '../src/services.js'
import { backoffOf, backoffToJson, identityOf, nameOf, refuseLogin, vhostOf } from './params.js'

const policyParams = pathParams({ queue: QueueNameSchema })

/** Set, look up and delete the retry policy of a queue. */
export const retryPolicyRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, policies }) => {
  app.put(
    '/queues/:queue/retry-policy',
    {
      config: { access: configure('queue') },
      schema: {
        operationId: 'putRetryPolicy',
        tags: ['queues'],
        summary: 'Set the retry policy of a queue',
        description:
          'The policy applies, on every instance, to a nack without a delay and to a lease that runs out: the message is delivered again after a growing wait, and after `max_deliveries` deliveries `then` decides.',
        params: policyParams,
        body: ref(RetryPolicyDeclarationSchema),
        response: {
          200: json(RetryPolicySchema, 'The policy was replaced.'),
          201: json(RetryPolicySchema, 'The policy was created.'),
          ...problems(
            ...BROKER,
            'queue_not_found',
            'stream_queue',
            'resource_locked',
            'broker_blocked',
            'unsupported_media_type',
            'message_too_large',
          ),
        },
      },
    },
    async (request, reply) => {
      refuseLogin(identityOf(request))
      const queue = nameOf(request.params, 'queue')
      const policy = policyOf(request.body)
      const vhost = await vhosts.get(vhostOf(request.params))
      if ((await vhost.topology.queueTypes.currentType(queue)) === 'stream') throw streamQueueProblem()
      const isNew = await policies.put(vhost.name, queue, policy)
      const warning = await dropsWarning(vhost.topology, queue, policy)
      return reply.code(isNew ? 201 : 200).send({ ...policyToJson(vhost.name, queue, policy), ...(warning && { warning }) })
    },
  )

  app.get(
    '/queues/:queue/retry-policy',
    {
      config: { access: readOrConfigure('queue') },
      schema: {
        operationId: 'getRetryPolicy',
        tags: ['queues'],
        summary: 'Look up the retry policy of a queue',
        params: policyParams,
        response: {
          200: json(RetryPolicySchema, 'The queue has a policy.'),
          ...problems('vhost_not_found', 'retry_policy_not_found'),
        },
      },
    },
    async (request) => {
      const queue = nameOf(request.params, 'queue')
      const vhost = vhostOf(request.params) ?? vhosts.defaultName
      const policy = policies.get(vhost, queue)
      if (!policy) throw new Problem('retry_policy_not_found', `The queue '${queue}' in vhost '${vhost}' has no retry policy.`)
      return policyToJson(vhost, queue, policy)
    },
  )

  app.delete(
    '/queues/:queue/retry-policy',
    {
      config: { access: configure('queue') },
      schema: {
        operationId: 'deleteRetryPolicy',
        tags: ['queues'],
        summary: 'Delete the retry policy of a queue',
        description: 'Succeeds if the queue has no policy. Messages that already wait are still delivered again.',
        params: policyParams,
        response: { 204: noContent('The queue has no policy.'), ...problems(...BROKER, 'broker_blocked') },
      },
    },
    async (request, reply) => {
      refuseLogin(identityOf(request))
      await policies.delete(vhostOf(request.params) ?? vhosts.defaultName, nameOf(request.params, 'queue'))
      return reply.code(204).send(null)
    },
  )
}

function policyOf(declaration: Static<typeof RetryPolicyDeclarationSchema>): RetryPolicy {
  const { max_deliveries: maxDeliveries, backoff, then: last } = declaration
  if (maxDeliveries === undefined && last !== undefined)
    throw invalidRequest('/body/then', 'has no effect without max_deliveries: the message is always delivered again')
  const waits = backoffOf(backoff, '/body/backoff')
  return { ...(maxDeliveries !== undefined && { maxDeliveries }), backoff: waits, last: last ?? 'dead_letter' }
}

/** What to tell the author of a policy that may drop messages without their knowing. */
async function dropsWarning(
  topology: Topology,
  queue: string,
  { maxDeliveries, last }: RetryPolicy,
): Promise<string | undefined> {
  if (maxDeliveries === undefined || last === 'discard') return undefined
  const hasDeadLetters = await topology.hasDeadLetters(queue)
  if (hasDeadLetters) return undefined
  const known =
    hasDeadLetters === false
      ? 'The queue was declared without a dead-letter exchange'
      : 'The gateway does not know whether the queue has a dead-letter exchange'
  return `${known}. If it has none by a policy of RabbitMQ either, RabbitMQ drops messages after max_deliveries.`
}

const policyToJson = (vhost: string, queue: string, { maxDeliveries, backoff, last }: RetryPolicy) => ({
  queue,
  vhost,
  ...(maxDeliveries !== undefined && { max_deliveries: maxDeliveries }),
  backoff: backoffToJson(backoff),
  ...(maxDeliveries !== undefined && { then: last }),
})
