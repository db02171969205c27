// Subscriptions: endpoints to which a queue's messages are POSTed.

import { Type } from 'typebox'
import { BackoffSchema, bodyDuration, FullBackoffSchema, ref, strict } from './common.js'

export const SubscriptionNameSchema = Type.String({
  description: "The subscription's name, 1 to 255 bytes, percent-encoded as one path segment.",
})

const Secret = Type.String({ maxLength: 100, description: '`whsec_` and the base64 of 24 to 64 bytes.' })
const format = Type.Enum(['raw', 'json', 'cloudevents'], {
  description:
    "raw: the message's body, its properties in `amqp-*` headers. json: the message as a receive answers it. cloudevents: an event in structured mode.",
})
const giveUp = Type.Enum(['dead_letter', 'pause', 'discard'], {
  description:
    'What happens to a message after the last attempt. dead_letter: it is rejected, to the dead-letter exchange of the queue. pause: it goes back, and the subscription is paused. discard: it is dropped.',
})

export const SubscriptionDefinitionSchema = Type.Object(
  {
    queue: Type.String({ description: 'Whose messages are delivered.' }),
    url: Type.String({ maxLength: 2048, description: 'http or https; what it resolves to has to be a public address.' }),
    secret: Type.Optional(
      Type.Union([Secret, Type.Array(Secret, { minItems: 1, maxItems: 2 })], {
        description:
          'What deliveries are signed with by Standard Webhooks: one, or two while one takes the place of the other. Without it a new subscription gets one, and another one keeps what it has.',
      }),
    ),
    format: Type.Optional(format),
    headers: Type.Optional(
      Type.Record(Type.String(), Type.String({ maxLength: 4096 }), {
        description: 'Sent with each delivery.',
        examples: [{ authorization: 'Bearer …' }],
      }),
    ),
    concurrency: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        default: 10,
        description: 'Deliveries at the same time, at most, on each instance.',
      }),
    ),
    timeout: Type.Optional(bodyDuration('How long a delivery may take, up to the end of the response. Default: `15s`.')),
    lease: Type.Optional(
      bodyDuration('How long a message stays leased after a 202. Default: `30s`, or the timeout if that is longer.'),
    ),
    retry: Type.Optional(
      Type.Object(
        {
          max_attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 10 })),
          backoff: Type.Optional(BackoffSchema),
        },
        strict,
      ),
    ),
    give_up: Type.Optional(giveUp),
    paused: Type.Optional(Type.Boolean({ description: 'Without it, a new subscription runs, and another one stays as it is.' })),
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
    url: Type.String(),
    secrets: Type.Integer({ description: 'How many there are. They are never shown.' }),
    secret: Type.Optional(Type.String({ description: 'The one that was made for a new subscription, shown this once.' })),
    format,
    headers: Type.Record(Type.String(), Type.String(), { description: 'What looks like a credential is shown masked.' }),
    concurrency: Type.Integer(),
    timeout: Type.String(),
    lease: Type.String(),
    retry: Type.Object({ max_attempts: Type.Integer(), backoff: FullBackoffSchema }, strict),
    give_up: giveUp,
    paused: Type.Boolean(),
    state: Type.Enum(['running', 'paused', 'failing'], {
      description: 'failing: the last attempt failed, or the gateway cannot receive from the queue.',
    }),
    pause_reason: Type.Optional(Type.String({ description: 'Why the gateway paused it.' })),
    delivered: Type.Integer({ description: 'By all instances, since they started.' }),
    failed: Type.Integer({ description: 'Attempts, likewise.' }),
    in_flight: Type.Integer({ description: 'Messages that wait for an answer, or were answered with 202 and are not settled.' }),
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
    status: Type.Optional(Type.Integer({ description: 'The status of the response. Absent if no response came.' })),
    body: Type.Optional(Type.String({ description: 'The first 4 KiB of it.' })),
    error: Type.Optional(Type.String({ description: 'Why there was no answer.' })),
    means: Type.Enum(['delivered', 'accepted', 'slowed', 'gone', 'failed'], {
      description: 'What such an answer would mean for a message.',
    }),
  },
  { $id: 'TestDelivery', ...strict },
)
