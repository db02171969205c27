// Redrives: messages of one queue on their way to where they came from, or elsewhere.

import { Type } from 'typebox'
import { anyObject, ref, strict } from './common.js'

export const RedriveIdParamSchema = Type.String({ description: 'As the redrive was begun with.' })

const name = (description: string) => Type.String({ description })
const target = Type.Union(
  [
    name('The name of a queue.'),
    Type.Object({ queue: name('The name of a queue.') }, strict),
    Type.Object(
      {
        exchange: name('The name of an exchange; `amq.default` is the default exchange.'),
        routing_key: Type.Optional(Type.String({ description: "Without it, each message's own." })),
      },
      strict,
    ),
  ],
  { description: 'A queue, or an exchange. Without it each message goes to the queue in which it died.' },
)
const max = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Maximum number of messages to move.' })
const rateSchema = Type.Number({
  exclusiveMinimum: 0,
  maximum: 10_000,
  description: 'Maximum number of messages to move a second.',
})
const filter = Type.Object(
  {
    header: Type.Optional(
      anyObject({
        minProperties: 1,
        description: 'AMQP headers that the message must have, with these values, in the JSON form of a message.',
      }),
    ),
    reason: Type.Optional(Type.Enum(['rejected', 'expired', 'maxlen', 'delivery_limit'], { description: 'Why it died.' })),
  },
  { ...strict, minProperties: 1, description: 'Only messages that are so.' },
)

export const RedriveOrderSchema = Type.Object(
  {
    to: Type.Optional(target),
    max: Type.Optional(max),
    rate: Type.Optional(rateSchema),
    filter: Type.Optional(filter),
    dry_run: Type.Optional(Type.Boolean({ default: false, description: 'Counts what would be moved, and moves nothing.' })),
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
    total: count('Messages in the queue when it began. No more are looked at.'),
    moved: count('Confirmed at their new place, and acknowledged at the old one.'),
    matched: count('Meant by the filter, and with a place to go; in a dry run, what would be moved.'),
    skipped: count('Not meant, or with no place where they came from. They stay.'),
    failed: count('Meant, and not moved: the target is not there, or refused them. They stay.'),
    last_error: Type.Optional(
      Type.String({ description: 'Why the last message failed, or why no message can be moved at the moment.' }),
    ),
    started_at: time,
    updated_at: time,
    ended_at: Type.Optional(time),
    instance: Type.Optional(Type.String({ description: 'Which instance moves them.' })),
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
