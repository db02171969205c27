// What becomes of messages that come back to a queue.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { QueueNameSchema } from '../openapi/schemas/common.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { configure, readOrConfigure } from '../src/access/requirements.js'
import { streamQueueProblem } from '../src/amqp/wire/errors.js'
import { invalidRequest, Problem } from '../src/problems.js'
import type { RetryPolicy } from '../src/retry/policies.js'
import type { Services } from '../src/services.js'
import { type BackoffBody, backoffOf, backoffToJson, nameOf, refuseLogin, vhostOf } from './params.js'

const params = Type.Object({ queue: QueueNameSchema })
const json = (description: string) => ({ description, content: { 'application/json': { schema: Type.Ref('RetryPolicy') } } })

export const retryPolicyRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, policies }) => {
  app.put(
    '/queues/:queue/retry-policy',
    {
      config: { access: configure('queue') },
      schema: {
        operationId: 'putRetryPolicy',
        tags: ['queues'],
        summary: 'Say what becomes of messages that come back',
        description:
          'A plain nack and a lease that runs out follow it, at every instance: the message comes again after a wait that grows, and after `max_deliveries` it goes where `then` says.',
        params,
        body: Type.Ref('RetryPolicyDeclaration'),
        response: {
          200: json('There was one before; now it is this.'),
          201: json('It is new.'),
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
      refuseLogin(request.identity!)
      const queue = nameOf(request.params, 'queue')
      const policy = policyOf(request.body as PolicyBody)
      const vhost = await vhosts.get(vhostOf(request.params))
      if ((await vhost.topology.queueTypes.currentType(queue)) === 'stream') throw streamQueueProblem()
      const isNew = await policies.put(vhost.name, queue, policy)
      return reply.code(isNew ? 201 : 200).send(policyToJson(vhost.name, queue, policy))
    },
  )

  app.get(
    '/queues/:queue/retry-policy',
    {
      config: { access: readOrConfigure('queue') },
      schema: {
        operationId: 'getRetryPolicy',
        tags: ['queues'],
        summary: 'Look at the retry policy of a queue',
        params,
        response: { 200: json('It has one.'), ...problems('vhost_not_found', 'retry_policy_not_found') },
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
        summary: 'Take the retry policy of a queue away',
        description: 'One that is not there is deleted already. Messages that wait come all the same.',
        params,
        response: { 204: { description: 'It has none.', type: 'null' }, ...problems(...BROKER, 'broker_blocked') },
      },
    },
    async (request, reply) => {
      refuseLogin(request.identity!)
      await policies.delete(vhostOf(request.params) ?? vhosts.defaultName, nameOf(request.params, 'queue'))
      return reply.code(204).send(null)
    },
  )
}

interface PolicyBody {
  max_deliveries?: number
  backoff?: BackoffBody
  then?: 'dead_letter' | 'discard'
}

function policyOf({ max_deliveries: maxDeliveries, backoff, then: last }: PolicyBody): RetryPolicy {
  if (maxDeliveries === undefined && last !== undefined)
    throw invalidRequest('/body/then', 'never comes, without max_deliveries: the message is always tried again')
  const waits = backoffOf(backoff, '/body/backoff')
  return { ...(maxDeliveries !== undefined && { maxDeliveries }), backoff: waits, last: last ?? 'dead_letter' }
}

const policyToJson = (vhost: string, queue: string, { maxDeliveries, backoff, last }: RetryPolicy) => ({
  queue,
  vhost,
  ...(maxDeliveries !== undefined && { max_deliveries: maxDeliveries }),
  backoff: backoffToJson(backoff),
  ...(maxDeliveries !== undefined && { then: last }),
})
