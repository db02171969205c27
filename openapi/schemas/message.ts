// Messages as they are received, and what publishing answers.

import { Type } from 'typebox'
import { anyObject, ref, strict } from './common.js'

export const HeadersSchema = anyObject({
  description:
    'AMQP headers. A value of a type that JSON does not have is tagged: `{"amqp_type": "timestamp", "value": 1700000000}`, `{"amqp_type": "int64", "value": "9007199254740993"}`, `{"amqp_type": "bytes", "value": "<base64>"}`, `{"amqp_type": "decimal", "value": {"places": 2, "digits": 314}}`.',
})

export const PropertiesSchema = Type.Object(
  {
    content_type: Type.Optional(Type.String()),
    content_encoding: Type.Optional(Type.String()),
    delivery_mode: Type.Optional(Type.Integer({ description: '1 transient, 2 persistent.' })),
    priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
    correlation_id: Type.Optional(Type.String()),
    reply_to: Type.Optional(Type.String()),
    expiration: Type.Optional(Type.String({ description: 'Milliseconds.' })),
    message_id: Type.Optional(Type.String()),
    timestamp: Type.Optional(Type.Integer({ description: 'Unix seconds.' })),
    type: Type.Optional(Type.String()),
    user_id: Type.Optional(Type.String()),
    app_id: Type.Optional(Type.String()),
    headers: Type.Optional(HeadersSchema),
  },
  { $id: 'Properties', ...strict, description: 'A property that is not set is absent.' },
)

export const MessageSchema = Type.Object(
  {
    payload: Type.Any({ description: 'As `payload_encoding` says: JSON as it is, a string, or base64.' }),
    payload_encoding: Type.Enum(['json', 'string', 'base64']),
    payload_bytes: Type.Integer({ minimum: 0 }),
    exchange: Type.String({ description: 'Empty for the default exchange.' }),
    routing_key: Type.String(),
    redelivered: Type.Boolean(),
    delivery_count: Type.Optional(
      Type.Integer({ minimum: 1, description: '1 at the first delivery. Absent if neither RabbitMQ nor the gateway counts.' }),
    ),
    deaths: Type.Optional(
      Type.Array(
        Type.Object(
          {
            queue: Type.String(),
            exchange: Type.String({ description: 'Where it had been published to, when it died there for the first time.' }),
            routing_keys: Type.Array(Type.String()),
            reason: Type.String({ description: 'rejected, expired, maxlen or delivery_limit.' }),
            count: Type.Integer({ minimum: 1, description: 'How often it died there for this reason.' }),
            time: Type.Optional(Type.String({ format: 'date-time', description: 'Of the first time.' })),
          },
          strict,
        ),
        { description: 'Of a dead letter: where and why it died, the last queue first. From the header `x-death`.' },
      ),
    ),
    properties: ref(PropertiesSchema),
    lease: Type.Optional(Type.Object({ id: Type.String(), expires_at: Type.String({ format: 'date-time' }) }, strict)),
  },
  { $id: 'Message', ...strict },
)

export const MessagesSchema = Type.Object({ messages: Type.Array(ref(MessageSchema)) }, { $id: 'Messages', ...strict })

export const ReceiptSchema = Type.Object(
  {
    message_id: Type.String({ description: "The client's own, or a new UUID that was put on the message." }),
    routed: Type.Optional(Type.Boolean({ description: 'Whether a queue has the message; absent with `confirm=false`.' })),
  },
  { $id: 'Receipt', ...strict },
)

const property = (description: string) => Type.Optional(Type.String({ description }))
/** What Swagger UI offers to fill in; the validator of messages reads them all, and every `amqp-header-<name>`. */
export const MessageHeadersSchema = Type.Object({
  'amqp-message-id': property('message_id. Default: a new UUID.'),
  'amqp-correlation-id': property('correlation_id'),
  'amqp-reply-to': property('reply_to'),
  'amqp-expiration': property('Milliseconds until the message is dropped from its queue.'),
  'amqp-priority': property('0 to 255'),
  'amqp-delivery-mode': property('1 transient, 2 persistent (default)'),
  'amqp-timestamp': property('Unix seconds'),
  'amqp-type': property('type'),
  'amqp-app-id': property('app_id'),
  'amqp-user-id': property("user_id: only the gateway's own AMQP user"),
  'amqp-headers': property('All AMQP headers, exactly, as a JSON object; or one by one as `amqp-header-<name>: <string>`.'),
})
