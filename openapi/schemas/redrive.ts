// Redrives, which move the messages of one queue to where they came from, or elsewhere.

import { Type } from 'typebox'
import { anyObject, ref, strict } from './common.js'

export const RedriveIdParamSchema = Type.String({ description: 'The id of the redrive, as the call that began it returned it.' })

const name = (description: string) => Type.String({ description })
const target = Type.Union(
  [
    name('The name of a queue.'),
    Type.Object({ queue: name('The name of a queue.') }, strict),
    Type.Object(
      {
        exchange: name('The name of an exchange; `amq.default` is the default exchange.'),
        routing_key: Type.Optional(
          Type.String({ description: 'The routing key to publish with. Default: the routing key of each message.' }),
        ),
      },
      strict,
    ),
  ],
  { description: 'The queue or exchange to move messages to. Default: each message goes back to the queue in which it died.' },
)
const max = Type.Integer({
  minimum: 1,
  maximum: Number.MAX_SAFE_INTEGER,
  description: 'Maximum number of messages to move. Default: all.',
})
const rateSchema = Type.Number({
  exclusiveMinimum: 0,
  maximum: 10_000,
  description: 'Maximum number of messages to move in a second. Default: no limit.',
})
const filter = Type.Object(
  {
    header: Type.Optional(
      anyObject({
        minProperties: 1,
        description: 'AMQP headers that the message must have, with these values, in the JSON form of a message.',
      }),
    ),
    reason: Type.Optional(
      Type.Enum(['rejected', 'expired', 'maxlen', 'delivery_limit'], { description: 'Why the message died.' }),
    ),
  },
  {
    ...strict,
    minProperties: 1,
    description: 'Move only messages that match, up to 2048 bytes of JSON. Default: every message matches.',
  },
)

export const RedriveOrderSchema = Type.Object(
  {
    to: Type.Optional(target),
    max: Type.Optional(max),
    rate: Type.Optional(rateSchema),
    filter: Type.Optional(filter),
    dry_run: Type.Optional(
      Type.Boolean({ default: false, description: 'true: count the messages that would be moved, and move none.' }),
    ),
  },
  {
    $id: 'RedriveOrder',
    ...strict,
    examples: [{}, { to: 'orders', max: 1000, rate: 50, filter: { header: { 'x-tenant': 'acme' }, reason: 'rejected' } }],
  },
)

const count = (description: string) => Type.Integer({ minimum: 0, description })
const time = Type.String({ format: 'date-time' })

export const RedriveSchema = Type.Object(
  {
    id: Type.String(),
    queue: Type.String(),
    vhost: Type.String(),
    state: Type.Enum(['running', 'done', 'stopped', 'failed']),
    dry_run: Type.Boolean(),
    to: Type.Optional(target),
    max: Type.Optional(max),
    rate: Type.Optional(rateSchema),
    filter: Type.Optional(filter),
    total: count('Messages in the queue when the redrive began. It looks at no more than these.'),
    moved: count('Messages that were confirmed in their new queue and acknowledged in the old one.'),
    matched: count('Messages that match the filter and have a target. In a dry run, these would be moved.'),
    skipped: count('Messages that do not match, or whose origin is unknown. They stay in the queue.'),
    failed: count('Messages that match but could not be moved: the target is missing or refused them. They stay in the queue.'),
    last_error: Type.Optional(
      Type.String({
        description: 'Why the last failed message could not be moved, or why no message can be moved at the moment.',
      }),
    ),
    started_at: time,
    updated_at: time,
    ended_at: Type.Optional(time),
    instance: Type.Optional(Type.String({ description: 'The instance that runs the redrive.' })),
  },
  {
    $id: 'Redrive',
    ...strict,
    examples: [
      {
        id: 'b2c7d9e0-6a1f-4a55-9d6e-0c7a4f1f3b1e',
        queue: 'orders.dead',
        vhost: '/',
        state: 'done',
        dry_run: false,
        total: 42,
        moved: 41,
        matched: 42,
        skipped: 0,
        failed: 1,
        last_error: "queue_not_found: There is no queue 'bills' in vhost '/'.",
        started_at: '2026-01-01T12:00:00.000Z',
        updated_at: '2026-01-01T12:00:01.000Z',
        ended_at: '2026-01-01T12:00:01.000Z',
      },
    ],
  },
)

export const RedrivesSchema = Type.Object({ redrives: Type.Array(ref(RedriveSchema)) }, { $id: 'Redrives', ...strict })
