// Subscriptions: URLs to which the gateway POSTs the messages of a queue.

import { Type } from 'typebox'
import { BackoffSchema, bodyDuration, FullBackoffSchema, ref, strict } from './common.js'

export const SubscriptionNameSchema = Type.String({
  description: 'The name of the subscription, 1 to 255 bytes, percent-encoded as one path segment.',
})

const Secret = Type.String({ maxLength: 100, description: '`whsec_`, followed by 24 to 64 bytes as base64.' })
const format = Type.Enum(['raw', 'json', 'cloudevents'], {
  description:
    'The form of a delivery. raw: the body of the message, with its properties in `amqp-*` headers. json: the message as a receive returns it. cloudevents: a CloudEvent in structured mode. Default: raw.',
})
const giveUp = Type.Enum(['dead_letter', 'pause', 'discard'], {
  description:
    'What happens to a message after the last attempt. dead_letter: it goes to the dead-letter exchange of the queue. pause: it returns to its queue, and the subscription is paused. discard: it is dropped. Default: dead_letter if the queue was declared with a dead-letter exchange, otherwise pause.',
})

export const SubscriptionDefinitionSchema = Type.Object(
  {
    queue: Type.String({ description: 'The queue whose messages are delivered.' }),
    url: Type.String({
      maxLength: 2048,
      description: 'An http or https URL. Its host must resolve to public addresses, unless the gateway allows others.',
    }),
    secret: Type.Optional(
      Type.Union([Secret, Type.Array(Secret, { minItems: 1, maxItems: 2 })], {
        description:
          'The secrets that deliveries are signed with, as Standard Webhooks defines: one, or two while clients change from one to the other. Default: a new subscription gets a new secret, and an existing one keeps its own unless its `url` or `queue` changes.',
      }),
    ),
    format: Type.Optional(format),
    headers: Type.Optional(
      Type.Record(Type.String(), Type.String({ maxLength: 4096 }), {
        description: 'HTTP headers to send with each delivery, up to 32 and up to 4096 bytes.',
        examples: [{ authorization: 'Bearer …' }],
      }),
    ),
    concurrency: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        default: 10,
        description: 'Maximum number of deliveries at the same time on each instance.',
      }),
    ),
    timeout: Type.Optional(
      bodyDuration('How long a delivery may take until its response is complete, from 100ms to 10m. Default: 15s.'),
    ),
    lease: Type.Optional(
      bodyDuration('How long a message is leased after a 202 response, from 1s. Default: 30s, or the timeout if that is longer.'),
    ),
    retry: Type.Optional(
      Type.Object(
        {
          max_attempts: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 1000,
              default: 10,
              description: 'Number of attempts after which the gateway gives a message up.',
            }),
          ),
          backoff: Type.Optional(BackoffSchema),
        },
        strict,
      ),
    ),
    give_up: Type.Optional(giveUp),
    paused: Type.Optional(
      Type.Boolean({
        description: 'true: the subscription delivers nothing. Default: a new subscription runs, an existing one stays as it is.',
      }),
    ),
  },
  {
    $id: 'SubscriptionDefinition',
    ...strict,
    examples: [{ queue: 'orders', url: 'https://example.com/hooks/orders', retry: { max_attempts: 8 }, paused: true }],
  },
)

export const SubscriptionSchema = Type.Object(
  {
    name: Type.String(),
    vhost: Type.String(),
    queue: Type.String(),
    url: Type.String({
      description: 'The URL, with a mask for the values of its query and for parts of its path that are not plain words.',
    }),
    secrets: Type.Integer({ description: 'The number of secrets. The secrets are never returned.' }),
    secret: Type.Optional(
      Type.String({
        description:
          'The secret that the gateway made, for a new subscription or for a new `url` or `queue`. It is returned only once.',
      }),
    ),
    format,
    headers: Type.Record(Type.String(), Type.String(), {
      description:
        'The HTTP headers of each delivery. Values are masked unless the name is known to be harmless, such as `user-agent`.',
    }),
    concurrency: Type.Integer(),
    timeout: Type.String(),
    lease: Type.String(),
    retry: Type.Object({ max_attempts: Type.Integer(), backoff: FullBackoffSchema }, strict),
    give_up: giveUp,
    retry_policy: Type.Optional(
      Type.Enum(['overridden'], {
        description: 'The queue has a retry policy. It does not apply to deliveries of this subscription: `retry` does.',
      }),
    ),
    paused: Type.Boolean(),
    state: Type.Enum(['running', 'paused', 'failing'], {
      description: 'failing: the last attempt failed, or the gateway cannot receive from the queue.',
    }),
    pause_reason: Type.Optional(Type.String({ description: 'Why the gateway paused the subscription.' })),
    delivered: Type.Integer({ description: 'Messages delivered by all instances since they started.' }),
    failed: Type.Integer({ description: 'Failed attempts of all instances since they started.' }),
    in_flight: Type.Integer({ description: 'Messages that wait for a response, or got a 202 and are not settled yet.' }),
    last_error: Type.Optional(Type.String()),
    last_error_at: Type.Optional(Type.String({ format: 'date-time' })),
    next_attempt: Type.Optional(Type.String({ format: 'date-time' })),
  },
  { $id: 'Subscription', ...strict },
)

export const SubscriptionsSchema = Type.Object(
  { subscriptions: Type.Array(ref(SubscriptionSchema)) },
  { $id: 'Subscriptions', ...strict },
)

export const TestDeliverySchema = Type.Object(
  {
    duration_ms: Type.Integer(),
    status: Type.Optional(Type.Integer({ description: 'The status of the response. Absent if there was none.' })),
    body: Type.Optional(Type.String({ description: 'The first 4 KiB of the response.' })),
    error: Type.Optional(Type.String({ description: 'Why there was no response.' })),
    means: Type.Enum(['delivered', 'accepted', 'slowed', 'gone', 'failed'], {
      description: 'What this response would mean for a message.',
    }),
  },
  { $id: 'TestDelivery', ...strict },
)
