// Subscriptions: create, look up, pause, resume, test, delete.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { json, noContent, pathParams, ref } from '../openapi/schemas/common.js'
import { NothingSchema } from '../openapi/schemas/lease.js'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import {
  SubscriptionDefinitionSchema,
  SubscriptionNameSchema,
  SubscriptionSchema,
  SubscriptionsSchema,
  TestDeliverySchema,
} from '../openapi/schemas/subscription.js'
import { listSubscriptions, ofSubscription, subscribe } from '../src/access/requirements.js'
import { Problem } from '../src/problems.js'
import type { Tested } from '../src/push/push.js'
import { classifyResponse } from '../src/push/response.js'
import { newSecret } from '../src/push/signature.js'
import type { Services } from '../src/services.js'
import { identityOf, nameOf, vhostOf } from './params.js'
import { readSubscription, subscriptionToJson } from './subscription-body.js'

const subscriptionParams = pathParams({ name: SubscriptionNameSchema })
const anyVhost = pathParams({})
const MAX_SHOWN_BYTES = 4096
/** The problems of every call that changes the log of definitions. */
const CHANGES = ['broker_blocked', 'overloaded'] as const

/** Create, look up, pause, resume, test and delete subscriptions. */
export const subscriptionRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, push, policies, config }) => {
  app.addHook('preHandler', () => push.ready())
  const vhostNameOf = (params: { vhost?: string }) => vhostOf(params) ?? vhosts.defaultName
  const toJson = (vhost: string, name: string, subscription = push.get(vhost, name)) =>
    subscriptionToJson(vhost, name, subscription, {
      status: push.status(vhost, name),
      hasPolicy: policies.get(vhost, subscription.queue) !== undefined,
    })

  app.put(
    '/subscriptions/:name',
    {
      config: { access: subscribe },
      schema: {
        operationId: 'putSubscription',
        tags: ['subscriptions'],
        summary: 'Create or replace a subscription',
        description:
          'The gateway POSTs each message of the queue to the URL, signed as Standard Webhooks defines. The response decides: 2xx acknowledges the message; 202 leaves it under its lease, to be settled later; 429, and 503 with `retry-after`, slow the subscription down; 410 pauses it; everything else is a failed attempt.',
        params: subscriptionParams,
        body: ref(SubscriptionDefinitionSchema),
        response: {
          200: json(SubscriptionSchema, 'The subscription was replaced.'),
          201: json(SubscriptionSchema, 'The subscription was created.'),
          ...problems(
            ...BROKER,
            ...CHANGES,
            'queue_not_found',
            'stream_queue',
            'resource_locked',
            'unsupported_media_type',
            'message_too_large',
          ),
        },
      },
    },
    async (request, reply) => {
      const name = nameOf(request.params, 'name')
      const asked = readSubscription(request.body, config, push.addresses)
      const vhost = await vhosts.get(vhostOf(request.params), identityOf(request).login)
      await vhost.topology.lookUpQueue(asked.queue)
      if ((await vhost.topology.queueTypes.recentType(asked.queue)) === 'stream')
        throw new Problem(
          'stream_queue',
          'A RabbitMQ stream keeps its messages, so a subscription cannot deliver and acknowledge them.',
        )
      const giveUp = asked.giveUp ?? ((await vhost.topology.hasDeadLetters(asked.queue)) ? 'dead_letter' : 'pause')
      let made: string | undefined
      const { created } = await push.put(vhost.name, name, (old) => {
        // A signature vouches for the queue to the endpoint: callers who change one of them do not get to keep the secret.
        const isSame = old?.url === asked.url && old.queue === asked.queue
        const kept = asked.secrets ?? (isSame ? old.secrets : undefined)
        made = kept ? undefined : newSecret()
        const secrets = kept ?? [made!]
        const { paused = old?.paused ?? false } = asked
        return { ...asked, giveUp, secrets, paused, ...(paused && old?.reason !== undefined && { reason: old.reason }) }
      })
      return reply.code(created ? 201 : 200).send({ ...toJson(vhost.name, name), ...(made !== undefined && { secret: made }) })
    },
  )

  app.get(
    '/subscriptions',
    {
      config: { access: listSubscriptions },
      schema: {
        operationId: 'listSubscriptions',
        tags: ['subscriptions'],
        summary: 'List subscriptions',
        description: 'The subscriptions of the vhost that the caller may configure.',
        params: anyVhost,
        response: { 200: json(SubscriptionsSchema, 'The subscriptions, by name.'), ...problems(...BROKER) },
      },
    },
    async (request) => {
      const vhost = vhostNameOf(request.params)
      const { rights } = identityOf(request)
      const mine = push.list(vhost).filter(({ name }) => rights.allows('configure', vhost, name))
      return {
        subscriptions: mine.map(({ name, subscription }) => toJson(vhost, name, subscription)),
      }
    },
  )

  app.get(
    '/subscriptions/:name',
    {
      config: { access: ofSubscription },
      schema: {
        operationId: 'getSubscription',
        tags: ['subscriptions'],
        summary: 'Look up a subscription',
        params: subscriptionParams,
        response: { 200: json(SubscriptionSchema, 'The subscription exists.'), ...problems(...BROKER, 'subscription_not_found') },
      },
    },
    async (request) => toJson(vhostNameOf(request.params), nameOf(request.params, 'name')),
  )

  app.delete(
    '/subscriptions/:name',
    {
      config: { access: ofSubscription },
      schema: {
        operationId: 'deleteSubscription',
        tags: ['subscriptions'],
        summary: 'Delete a subscription',
        description:
          'Deliveries under way are still settled by their responses. The queue and its messages stay. Succeeds if the subscription does not exist.',
        params: subscriptionParams,
        response: { 204: noContent('The subscription does not exist any more.'), ...problems(...BROKER, ...CHANGES) },
      },
    },
    async (request, reply) => {
      await push.delete(vhostNameOf(request.params), nameOf(request.params, 'name'))
      return reply.code(204).send(null)
    },
  )

  for (const [verb, paused, summary] of [
    ['pause', true, 'Pause a subscription'],
    ['resume', false, 'Resume a subscription'],
  ] as const) {
    app.post(
      `/subscriptions/:name/${verb}`,
      {
        config: { access: ofSubscription },
        schema: {
          operationId: `${verb}Subscription`,
          tags: ['subscriptions'],
          summary,
          params: subscriptionParams,
          body: ref(NothingSchema),
          response: {
            200: json(SubscriptionSchema, `The subscription is ${paused ? 'paused' : 'resumed'} on all instances.`),
            ...problems(...BROKER, ...CHANGES, 'subscription_not_found', 'unsupported_media_type', 'message_too_large'),
          },
        },
      },
      async (request) => {
        const [vhost, name] = [vhostNameOf(request.params), nameOf(request.params, 'name')]
        await push.setPaused(vhost, name, paused)
        return toJson(vhost, name)
      },
    )
  }

  app.post(
    '/subscriptions/:name/test',
    {
      config: { access: ofSubscription },
      schema: {
        operationId: 'testSubscription',
        tags: ['subscriptions'],
        summary: 'Deliver a sample message',
        description:
          'Signed like every delivery, and sent even if the subscription is paused. The sample is not a message of the queue: the gateway settles nothing and makes no second attempt.',
        params: subscriptionParams,
        body: ref(NothingSchema),
        response: {
          200: json(TestDeliverySchema, 'The result of the delivery.'),
          ...problems(...BROKER, 'subscription_not_found', 'unsupported_media_type', 'message_too_large'),
        },
      },
    },
    async (request) => testToJson(await push.test(vhostNameOf(request.params), nameOf(request.params, 'name'))),
  )
}

function testToJson(tested: Tested) {
  if ('error' in tested) return { duration_ms: tested.duration, error: tested.error, means: 'failed' as const }
  const { status, retryAfter, body } = tested.answer
  const text = body.subarray(0, MAX_SHOWN_BYTES).toString('utf8')
  return { duration_ms: tested.duration, status, body: text, means: classifyResponse(status, retryAfter).kind }
}
