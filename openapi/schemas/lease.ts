// Leases: settling, extending, many at once.

import { Type } from 'typebox'
import { bodyDuration, strict } from './common.js'

export const LeaseIdParamSchema = Type.String({ description: 'As a receive gave it.' })

export const LeaseSchema = Type.Object(
  {
    id: Type.String(),
    queue: Type.String(),
    vhost: Type.String(),
    leased_at: Type.String({ format: 'date-time' }),
    expires_at: Type.String({ format: 'date-time' }),
    message_id: Type.Optional(Type.String()),
    delivery_count: Type.Optional(Type.Integer({ minimum: 1 })),
  },
  { $id: 'Lease', ...strict },
)

export const ExtensionSchema = Type.Object(
  { id: Type.String(), expires_at: Type.String({ format: 'date-time' }) },
  { $id: 'Extension', ...strict },
)

const requeue = Type.Optional(
  Type.Boolean({ default: true, description: 'false: to the dead-letter exchange, where the queue has one.' }),
)
const lease = Type.Optional(bodyDuration('From now on, that long; without it, as long as it was leased for.'))

const nackDelay = Type.Optional(
  bodyDuration(
    'How long until the message is delivered again, from 100ms to 30d. Only for a message that goes back to its queue.',
  ),
)

export const NackSchema = Type.Object({ requeue, delay: nackDelay }, { $id: 'Nack', ...strict, examples: [{}, { delay: '30s' }] })
export const ExtendSchema = Type.Object({ lease }, { $id: 'Extend', ...strict })
export const NothingSchema = Type.Object({}, { $id: 'Nothing', ...strict, description: 'No body, or an empty object.' })

const MANY = { maxItems: 1000 }
export const SettleSchema = Type.Object(
  {
    ack: Type.Optional(Type.Array(Type.String(), MANY)),
    nack: Type.Optional(Type.Array(Type.Object({ id: Type.String(), requeue, delay: nackDelay }, strict), MANY)),
    extend: Type.Optional(Type.Array(Type.Object({ id: Type.String(), lease }, strict), MANY)),
  },
  {
    $id: 'Settle',
    ...strict,
    description: 'Up to 1000 leases in all.',
    examples: [{ ack: ['7f3a…'], nack: [{ id: '8c1b…' }], extend: [] }],
  },
)

export const SettleResultsSchema = Type.Object(
  {
    settled: Type.Integer({ description: 'How many were acked, nacked or extended.' }),
    failed: Type.Integer(),
    results: Type.Array(
      Type.Object(
        {
          id: Type.String(),
          status: Type.Enum(['acked', 'nacked', 'extended', 'gone', 'conflict', 'refused', 'unknown']),
          expires_at: Type.Optional(Type.String({ format: 'date-time' })),
          problem: Type.Optional(
            Type.Object(
              { code: Type.String(), detail: Type.String(), retryable: Type.Boolean() },
              { ...strict, description: 'Why it failed.' },
            ),
          ),
        },
        strict,
      ),
      {
        description:
          'In the order ack, nack, extend. `refused`: that needs the right to read its queue. `unknown`: whether the broker took it is not known; ask again.',
      },
    ),
  },
  { $id: 'SettleResults', ...strict },
)
