// The schema of the API key file, in TypeBox. docs/api-keys.schema.json is generated from it, for editors.

import { type Static, Type } from 'typebox'
import { MAX_SCOPE_CHARS, SCOPE_FORMAT } from './rights.js'

export const MAX_STAMPED_HEADERS = 16
export const MAX_STAMPED_HEADER_CHARS = 1024
/** The names of headers that keys and tokens may set on messages. */
export const STAMPED_HEADER_NAME = /^[\w.:-]{1,128}$/

const closed = { additionalProperties: false }

const KeySchema = Type.Object(
  {
    name: Type.String({
      pattern: '^[\\w.@-][\\w.@ -]{0,127}$',
      description:
        'The name of the key: 1 to 128 letters, digits, spaces and any of . _ @ -. Unique in the file; stands in the log if the key is used.',
    }),
    sha256: Type.String({
      pattern: '^[0-9A-Fa-f]{64}$',
      description: 'SHA-256 of the key, as 64 hexadecimal digits. Unique in the file.',
    }),
    rights: Type.Array(Type.String({ pattern: SCOPE_FORMAT.source, maxLength: MAX_SCOPE_CHARS }), {
      description:
        'What the key may do: configure, write or read on names in a vhost, as in read:%2F/orders.* (vhost /, names that begin with orders.).',
    }),
    expires_at: Type.Optional(
      Type.String({
        format: 'date-time',
        // Some validators of this format also accept a space in place of the T.
        pattern: '^\\d{4}-\\d\\d-\\d\\d[Tt]\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?([Zz]|[+-]\\d\\d:\\d\\d)$',
        description: 'When the key expires, as in 2030-01-31T00:00:00Z. Never if absent.',
      }),
    ),
    headers: Type.Optional(
      Type.Record(Type.String({ pattern: STAMPED_HEADER_NAME.source }), Type.String({ maxLength: MAX_STAMPED_HEADER_CHARS }), {
        ...closed,
        maxProperties: MAX_STAMPED_HEADERS,
        description: 'AMQP headers that the gateway sets on every message published with the key.',
      }),
    ),
    user_id: Type.Optional(Type.Boolean({ description: 'Whether the key may set the user_id of messages.' })),
  },
  closed,
)

/** One entry of the key file, as it is written. */
export type KeyFileEntry = Static<typeof KeySchema>

/** The whole key file. */
export const KeyFileSchema = Type.Object(
  {
    $schema: Type.Optional(Type.String({ description: 'The address of this schema, for editors. The gateway ignores it.' })),
    keys: Type.Array(KeySchema),
  },
  { ...closed, title: 'API keys of rabbitmq-http-gateway' },
)

/** The JSON Schema document for editors. */
export const keyFileJsonSchema = (): Record<string, unknown> => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  ...(JSON.parse(JSON.stringify(KeyFileSchema)) as Record<string, unknown>),
})
