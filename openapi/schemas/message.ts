// Messages, their properties and headers, and the receipt of a publish.

import { Type } from 'typebox'
import { anyObject, ref, strict } from './common.js'

export const HeadersSchema = anyObject({
  description:
    'AMQP headers. A value of a type that JSON does not have is tagged: `{"amqp_type": "timestamp", "value": 1700000000}`, `{"amqp_type": "int64", "value": "9007199254740993"}`, `{"amqp_type": "bytes", "value": "<base64>"}`, `{"amqp_type": "decimal", "value": {"places": 2, "digits": 314}}`.',
})

/** AMQP allows texts that are not UTF-8, and JSON does not. */
const Text = () => Type.Union([Type.String(), Type.Object({ amqp_type: Type.Literal('bytes'), value: Type.String() }, strict)])

export const PropertiesSchema = Type.Object(
  {
    content_type: Type.Optional(Text()),
    content_encoding: Type.Optional(Text()),
    delivery_mode: Type.Optional(Type.Integer({ description: '1: transient. 2: persistent.' })),
    priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
    correlation_id: Type.Optional(Text()),
    reply_to: Type.Optional(Text()),
    expiration: Type.Optional(Type.String({ description: 'Milliseconds until the message expires, as a string.' })),
    message_id: Type.Optional(Text()),
    timestamp: Type.Optional(Type.Integer({ description: 'Seconds since 1970.' })),
    type: Type.Optional(Text()),
    user_id: Type.Optional(Type.String()),
    app_id: Type.Optional(Text()),
    headers: Type.Optional(HeadersSchema),
  },
  {
    $id: 'Properties',
    ...strict,
    description:
      'The properties of a message. A property that is not set is absent. A text that is not UTF-8 is `{"amqp_type": "bytes", "value": "<base64>"}`, and a timestamp may have any 64 bits.',
  },
)

export const MessageSchema = Type.Object(
  {
    payload: Type.Any({
      description: 'The body of the message, in the form that `payload_encoding` names: a JSON value, a string, or base64.',
    }),
    payload_encoding: Type.Enum(['json', 'string', 'base64']),
    payload_bytes: Type.Integer({ minimum: 0, description: 'The size of the body in bytes.' }),
    exchange: Type.String({ description: 'The exchange that the message was published to. Empty for the default exchange.' }),
    routing_key: Type.String(),
    redelivered: Type.Boolean(),
    delivery_count: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'Number of deliveries, including this one. Absent if neither RabbitMQ nor the gateway counts them.',
      }),
    ),
    deaths: Type.Optional(
      Type.Array(
        Type.Object(
          {
            queue: Type.String(),
            exchange: Type.String({
              description: 'The exchange that the message had been published to when it died here for the first time.',
            }),
            routing_keys: Type.Array(Type.String()),
            reason: Type.String({ description: 'Why the message died: rejected, expired, maxlen or delivery_limit.' }),
            count: Type.Integer({ minimum: 1, description: 'How often the message died here for this reason.' }),
            time: Type.Optional(Type.String({ format: 'date-time', description: 'When it first died here for this reason.' })),
          },
          strict,
        ),
        { description: 'Only for a dead letter: where and why it died, from the header `x-death`. The last queue comes first.' },
      ),
    ),
    failures: Type.Optional(
      Type.Array(
        Type.Object(
          {
            reason: Type.String({ description: 'What the client that gave it back said, or what the endpoint answered.' }),
            time: Type.String({ format: 'date-time' }),
            by: Type.Enum(['nack', 'push', 'lease_expired']),
          },
          strict,
        ),
        { description: 'Why the message was given back before, the last ten times, the latest last.' },
      ),
    ),
    properties: ref(PropertiesSchema),
    lease: Type.Optional(Type.Object({ id: Type.String(), expires_at: Type.String({ format: 'date-time' }) }, strict)),
  },
  { $id: 'Message', ...strict },
)

export const MessagesSchema = Type.Object(
  {
    messages: Type.Array(ref(MessageSchema)),
    more: Type.Optional(
      Type.Literal(true, {
        description:
          'There are more messages, but a limit of the gateway ended the answer. Without it, fewer messages than `max` means that no more were ready.',
      }),
    ),
  },
  { $id: 'Messages', ...strict },
)

export const ReceiptSchema = Type.Object(
  {
    message_id: Type.String({ description: 'The id that the client set, or a new UUID that the gateway set on the message.' }),
    routed: Type.Optional(
      Type.Boolean({
        description:
          'Whether at least one queue took the message. Absent if that is not known: with `confirm=false`; for a direct reply-to address, `amq.rabbitmq.reply-to.…`; and for a message with the header `x-delay` that an exchange returned, which one that delays messages does as well.',
      }),
    ),
    warning: Type.Optional(
      Type.String({
        description: 'Why the message is probably not what its publisher meant, such as JSON with the content type of a form.',
      }),
    ),
  },
  { $id: 'Receipt', ...strict },
)

export const StreamTicketSchema = Type.Object(
  {
    ticket: Type.String({ description: 'Opaque. It stands for credentials, so keep it out of logs.' }),
    expires_at: Type.String({ format: 'date-time', description: 'Until when a client may connect for the first time.' }),
    url: Type.String({ description: 'The path of the stream with the ticket in its query.' }),
  },
  { $id: 'StreamTicket', ...strict },
)

const property = (description: string) => Type.Optional(Type.String({ description }))
/** The headers that Swagger UI offers. The gateway reads and checks all of them elsewhere, and every `amqp-header-<name>`. */
export const MessageHeadersSchema = Type.Object({
  'amqp-message-id': property('message_id. Default: a new UUID.'),
  'amqp-correlation-id': property('correlation_id'),
  'amqp-reply-to': property('reply_to'),
  'amqp-expiration': property('expiration: milliseconds until the message expires in its queue.'),
  'amqp-priority': property('priority, from 0 to 255'),
  'amqp-delivery-mode': property('delivery_mode. 1: transient. 2: persistent (default).'),
  'amqp-timestamp': property('timestamp, in seconds since 1970'),
  'amqp-type': property('type'),
  'amqp-app-id': property('app_id'),
  'amqp-user-id': property("user_id. RabbitMQ accepts only the user of the gateway's own connection."),
  'amqp-content-encoding': property(
    'content_encoding, if it is no content coding of HTTP, such as `utf-8`. Others travel as `content-encoding`.',
  ),
  'amqp-headers': property(
    'All AMQP headers as a JSON object, with their types. Headers with string values can also be sent one by one, as `amqp-header-<name>: <string>`.',
  ),
})
