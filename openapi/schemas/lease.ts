// Leases: settle and extend them, one or many at a time.

import { Type } from 'typebox'
import { bodyDuration, strict } from './common.js'

export const LeaseIdParamSchema = Type.String({ description: 'The id of the lease, as the receive returned it.' })

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
  Type.Boolean({
    default: true,
    description:
      'true: the message returns to its queue. false: it goes to the dead-letter exchange of the queue, or is dropped if the queue has none.',
  }),
)
const lease = Type.Optional(bodyDuration('How long the lease lasts from now, from 1s. Default: the duration it was leased for.'))

const nackDelay = Type.Optional(
  bodyDuration('Deliver the message again after this time, from 100ms to 30d. Only with `requeue`.'),
)

const reason = Type.Optional(
  Type.String({
    maxLength: 1024,
    description: 'Why, in up to 1 KiB. A message that comes again after a delay keeps it among its `failures`.',
  }),
)

export const NackSchema = Type.Object(
  { requeue, delay: nackDelay, reason },
  { $id: 'Nack', ...strict, examples: [{}, { delay: '30s', reason: 'The mail server did not answer.' }] },
)
export const ExtendSchema = Type.Object({ lease }, { $id: 'Extend', ...strict })
export const NothingSchema = Type.Object({}, { $id: 'Nothing', ...strict, description: 'No body, or an empty object.' })

const MANY = { maxItems: 1000 }
export const SettleSchema = Type.Object(
  {
    ack: Type.Optional(Type.Array(Type.String(), MANY)),
    nack: Type.Optional(Type.Array(Type.Object({ id: Type.String(), requeue, delay: nackDelay, reason }, strict), MANY)),
    extend: Type.Optional(Type.Array(Type.Object({ id: Type.String(), lease }, strict), MANY)),
  },
  {
    $id: 'Settle',
    ...strict,
    description: 'Up to 1000 leases in total.',
    examples: [{ ack: ['7f3a…'], nack: [{ id: '8c1b…' }], extend: [] }],
  },
)

export const SettleResultsSchema = Type.Object(
  {
    settled: Type.Integer({ description: 'Number of leases that were acked, nacked or extended.' }),
    failed: Type.Integer({ description: 'Number of leases that were not.' }),
    results: Type.Array(
      Type.Object(
        {
          id: Type.String(),
          status: Type.Enum(['acked', 'nacked', 'extended', 'gone', 'conflict', 'refused', 'unknown']),
          expires_at: Type.Optional(Type.String({ format: 'date-time' })),
          problem: Type.Optional(
            Type.Object(
              { code: Type.String(), detail: Type.String(), retryable: Type.Boolean() },
              { ...strict, description: 'Why the command failed.' },
            ),
          ),
        },
        strict,
      ),
      {
        description:
          'In the order ack, nack, extend. `gone`: the lease ran out, or never existed. `conflict`: the lease was settled differently, or cannot last that long. `refused`: the caller may not read its queue. `unknown`: the lease was not settled, or nobody knows whether it was; `problem` says which.',
      },
    ),
  },
  { $id: 'SettleResults', ...strict },
)
