// Retry policies of queues.

import { Type } from 'typebox'
import { BackoffSchema, FullBackoffSchema, strict } from './common.js'

const MAX = {
  minimum: 1,
  maximum: 1_000_000,
  description: 'Number of deliveries after which a message is not delivered again. Default: no limit.',
}
const THEN = {
  description:
    'What happens to a message after `max_deliveries`. dead_letter (default): it goes to the dead-letter exchange of the queue, or RabbitMQ drops it if the queue has none. discard: it is dropped.',
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
    warning: Type.Optional(
      Type.String({
        description: 'After a PUT: the policy may drop messages, since no dead-letter exchange of the queue is known.',
      }),
    ),
  },
  { $id: 'RetryPolicy', ...strict },
)
