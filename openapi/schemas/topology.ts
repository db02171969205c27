// Queues and exchanges.

import { Type } from 'typebox'
import { ArgumentsSchema, strict } from './common.js'

const durable = Type.Optional(Type.Boolean({ default: true }))
const auto_delete = Type.Optional(Type.Boolean({ default: false }))

export const QueueDeclarationSchema = Type.Object(
  {
    type: Type.Optional(
      Type.Enum(['classic', 'quorum', 'stream'], {
        description: 'The type of the queue. Default: the default type of the broker.',
      }),
    ),
    durable,
    auto_delete,
    dead_letter: Type.Optional(
      Type.Boolean({
        default: false,
        description:
          'true: rejected and expired messages go to the queue `<queue>.dead`, which is declared too if it does not exist. Cannot be combined with the dead-letter arguments.',
      }),
    ),
    arguments: Type.Optional(ArgumentsSchema),
  },
  { $id: 'QueueDeclaration', ...strict, examples: [{}, { type: 'quorum', dead_letter: true }] },
)

export const DeclaredQueueSchema = Type.Object({ name: Type.String(), vhost: Type.String() }, { $id: 'DeclaredQueue', ...strict })

export const QueueSchema = Type.Object(
  { name: Type.String(), vhost: Type.String(), message_count: Type.Integer(), consumer_count: Type.Integer() },
  { $id: 'Queue', ...strict },
)

export const PurgedSchema = Type.Object(
  { message_count: Type.Integer({ description: 'Number of messages that were deleted.' }) },
  { $id: 'Purged', ...strict },
)

export const ExchangeDeclarationSchema = Type.Object(
  {
    type: Type.String({
      minLength: 1,
      maxLength: 100,
      description: 'direct, fanout, topic, headers, or a type that a plugin adds.',
      examples: ['topic'],
    }),
    durable,
    auto_delete,
    internal: Type.Optional(Type.Boolean({ default: false })),
    arguments: Type.Optional(ArgumentsSchema),
  },
  { $id: 'ExchangeDeclaration', ...strict },
)

export const ExchangeSchema = Type.Object({ name: Type.String(), vhost: Type.String() }, { $id: 'Exchange', ...strict })
