// Subscriptions: define, look at, pause, resume, try, delete.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { BROKER, problems } from '../openapi/schemas/problem.js'
import { SubscriptionNameSchema } from '../openapi/schemas/subscription.js'
import { listSubscriptions, ofSubscription, subscribe } from '../src/access/requirements.js'
import { Problem } from '../src/problems.js'
import type { Tested } from '../src/push/push.js'
import { classifyResponse } from '../src/push/response.js'
import { newSecret } from '../src/push/signature.js'
import type { Services } from '../src/services.js'
import { nameOf, vhostOf } from './params.js'
import { readSubscription, type SubscriptionBody, subscriptionToJson } from './subscription-body.js'

const params = Type.Object({ name: SubscriptionNameSchema })
const json = (id: string, description: string) => ({ description, content: { 'application/json': { schema: Type.Ref(id) } } })
const MAX_SHOWN = 4096
const changes = ['broker_blocked', 'overloaded'] as const

export const subscriptionRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { vhosts, push, config }) => {
  app.addHook('preHandler', () => push.ready())
  const vhostNameOf = (params: object) => vhostOf(params) ?? vhosts.defaultName
  const show = (vhost: string, name: string) => subscriptionToJson(vhost, name, push.get(vhost, name), push.status(vhost, name))

  app.put(
    '/subscriptions/:name',
    {
      config: { access: subscribe },
      schema: {
        operationId: 'putSubscription',
        tags: ['subscriptions'],
        summary: 'Have messages delivered to a URL',
        description:
          'Each message of the queue is POSTed to the URL, signed by Standard Webhooks. 2xx acknowledges it; 202 leaves it under its lease, to be settled later; 429, and 503 with `retry-after`, slow the subscription down; 410 pauses it; everything else is a failed attempt.',
        params,
        body: Type.Ref('SubscriptionDefinition'),
        response: {
          200: json('Subscription', 'It was there already, and is like this now.'),
          201: json('Subscription', 'It is new.'),
          ...problems(
            ...BROKER,
            ...changes,
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
      const asked = readSubscription(request.body as SubscriptionBody, config, push.addresses)
      const vhost = await vhosts.get(vhostOf(request.params), request.identity!.login)
      await vhost.topology.lookUpQueue(asked.queue)
      if ((await vhost.topology.queueTypes.recentType(asked.queue)) === 'stream')
        throw new Problem('stream_queue', 'A stream keeps its messages, and gives none of them to a subscription.')
      let made: string | undefined
      const { created } = await push.put(vhost.name, name, (old) => {
        made = old || asked.secrets ? undefined : newSecret()
        const { secrets = made ? [made] : old!.secrets, paused = old?.paused ?? false } = asked
        return { ...asked, secrets, paused, ...(paused && old?.reason !== undefined && { reason: old.reason }) }
      })
      return reply.code(created ? 201 : 200).send({ ...show(vhost.name, name), ...(created && made && { secret: made }) })
    },
  )

  app.get(
    '/subscriptions',
    {
      config: { access: listSubscriptions },
      schema: {
        operationId: 'listSubscriptions',
        tags: ['subscriptions'],
        summary: 'All subscriptions of the vhost',
        response: { 200: json('Subscriptions', 'Those that one may see, by name.'), ...problems(...BROKER) },
      },
    },
    async (request) => {
      const vhost = vhostNameOf(request.params as object)
      const { rights } = request.identity!
      const mine = push.list(vhost).filter(({ name }) => rights.allows('configure', vhost, name))
      return {
        subscriptions: mine.map(({ name, subscription }) =>
          subscriptionToJson(vhost, name, subscription, push.status(vhost, name)),
        ),
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
        summary: 'Look at a subscription',
        params,
        response: { 200: json('Subscription', 'It is there.'), ...problems(...BROKER, 'subscription_not_found') },
      },
    },
    async (request) => show(vhostNameOf(request.params), nameOf(request.params, 'name')),
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
          'What is being delivered is settled by its answer. A subscription that is not there is deleted already. The queue stays.',
        params,
        response: { 204: { description: 'It is gone.', type: 'null' }, ...problems(...BROKER, ...changes) },
      },
    },
    async (request, reply) => {
      await push.delete(vhostNameOf(request.params), nameOf(request.params, 'name'))
      return reply.code(204).send(null)
    },
  )

  for (const [verb, paused, summary] of [
    ['pause', true, 'Deliver nothing more for now'],
    ['resume', false, 'Deliver again'],
  ] as const) {
    app.post(
      `/subscriptions/:name/${verb}`,
      {
        config: { access: ofSubscription },
        schema: {
          operationId: `${verb}Subscription`,
          tags: ['subscriptions'],
          summary,
          params,
          body: Type.Ref('Nothing'),
          response: {
            200: json('Subscription', 'At all instances.'),
            ...problems(...BROKER, ...changes, 'subscription_not_found', 'unsupported_media_type', 'message_too_large'),
          },
        },
      },
      async (request) => {
        const [vhost, name] = [vhostNameOf(request.params), nameOf(request.params, 'name')]
        await push.setPaused(vhost, name, paused)
        return show(vhost, name)
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
        summary: 'Deliver a sample',
        description: 'Signed as every delivery, paused or not. It stands for no message: nothing is settled or tried again.',
        params,
        body: Type.Ref('Nothing'),
        response: {
          200: json('TestDelivery', 'What came of it.'),
          ...problems(...BROKER, 'subscription_not_found', 'unsupported_media_type', 'message_too_large'),
        },
      },
    },
    async (request) => testShown(await push.test(vhostNameOf(request.params), nameOf(request.params, 'name'))),
  )
}

function testShown(tested: Tested) {
  if ('error' in tested) return { duration_ms: tested.duration, error: tested.error, means: 'failed' as const }
  const { status, retryAfter, body } = tested.answer
  const text = body.subarray(0, MAX_SHOWN).toString('utf8')
  return { duration_ms: tested.duration, status, body: text, means: classifyResponse(status, retryAfter).kind }
}
