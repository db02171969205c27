// Retry policies of queues.

import { Type } from 'typebox'
import { BackoffSchema, FullBackoffSchema, strict } from './common.js'

const MAX = {
  minimum: 1,
  maximum: 1_000_000,
  description: 'After this many deliveries a message is not tried again. Default: no limit.',
}
const THEN = {
  description:
    'What happens to the message then. `dead_letter` (default): it is rejected to the dead-letter exchange of the queue; without one, RabbitMQ drops it. `discard`: it is dropped.',
}

export const RetryPolicyDeclarationSchema = Type.Object(
  {
    max_deliveries: Type.Optional(Type.Integer(MAX)),
    backoff: Type.Optional(BackoffSchema),
    then: Type.Optional(Type.Enum(['dead_letter', 'discard'], THEN)),
  },
  {
    $id: 'RetryPolicyDeclaration',
    ...strict,
    examples: [
      { max_deliveries: 5, backoff: { initial: '1s', factor: 2, max: '10m', jitter: 0.2 }, then: 'dead_letter' },
      { backoff: { initial: '5s', factor: 1 } },
    ],
  },
)

export const RetryPolicySchema = Type.Object(
  {
    queue: Type.String(),
    vhost: Type.String(),
    max_deliveries: Type.Optional(Type.Integer(MAX)),
    backoff: FullBackoffSchema,
    then: Type.Optional(Type.Enum(['dead_letter', 'discard'], THEN)),
  },
  { $id: 'RetryPolicy', ...strict },
)
