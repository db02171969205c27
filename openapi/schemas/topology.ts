// Queues, exchanges, bindings.

import { Type } from 'typebox'
import { ArgumentsSchema, strict } from './common.js'

const durable = Type.Optional(Type.Boolean({ default: true }))
const auto_delete = Type.Optional(Type.Boolean({ default: false }))

export const QueueDeclarationSchema = Type.Object(
  {
    type: Type.Optional(Type.Enum(['classic', 'quorum', 'stream'], { description: "Without it, the broker's default." })),
    durable,
    auto_delete,
    dead_letter: Type.Optional(
      Type.Boolean({
        default: false,
        description:
          'What is rejected, or expires, goes to the queue `<queue>.dead`, which is declared too where it is not there. In place of the arguments for that.',
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
  { message_count: Type.Integer({ description: 'How many were dropped.' }) },
  { $id: 'Purged', ...strict },
)

export const ExchangeDeclarationSchema = Type.Object(
  {
    type: Type.String({
      minLength: 1,
      maxLength: 100,
      description: 'direct, fanout, topic, headers, or what a plugin adds.',
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
