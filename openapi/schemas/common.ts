// Parts that many schemas and routes share: references, responses, names, durations.

import { type Static, type TObject, type TObjectOptions, type TProperties, type TSchema, Type } from 'typebox'

/** Options of an object that refuses members it does not name. */
export const strict = { additionalProperties: false } as const

/**
 * A reference to a schema that the document has by its `$id`, with that schema's type.
 * @throws Error the schema has no `$id`
 */
export function ref<T extends TSchema>(schema: T) {
  const id = '$id' in schema ? schema.$id : undefined
  if (typeof id !== 'string') throw new Error('Only a schema with an $id can be referenced.')
  return Type.Unsafe<Static<T>>({ $ref: id })
}

/** A response with a JSON body of this schema. A handler may send nothing else with its status. */
export function json<T extends TSchema>(schema: T, description: string) {
  return Type.Unsafe<Static<T>>({ description, content: { 'application/json': { schema: ref(schema) } } })
}

/** A response whose handler writes the body itself, as text, bytes or a stream, in one of these media types. */
export function written<Body>(description: string, content: Record<string, { schema: TSchema }>) {
  return Type.Unsafe<Body>({ description, content })
}

/** An object with members of any name and type. */
export const anyObject = (options: TObjectOptions) =>
  Type.Unsafe<Record<string, unknown>>(Type.Object({}, { additionalProperties: true, ...options }))

/** A response without a body. */
export const noContent = (description: string) => Type.Null({ description })

/**
 * The parameters of a path. Every route also exists under `/vhosts/{vhost}`, so its type has `vhost` too; the document has
 * that as a server variable instead.
 */
export function pathParams<T extends TProperties>(properties: T) {
  return Type.Unsafe<Static<TObject<T>> & { vhost?: string }>(Type.Object(properties))
}

export const QueueNameSchema = Type.String({
  description: 'The name of the queue, 1 to 255 bytes, percent-encoded as one path segment.',
})
export const ExchangeNameSchema = Type.String({
  description: 'The name of the exchange, percent-encoded as one path segment. `amq.default` is the default exchange.',
})

const DURATION_TEXT = 'A number with a unit (`500ms`, `30s`, `5m`, `1h`); a number without a unit is seconds.'
/** A duration in the query. It has no example: Swagger UI would fill the form in with it, and delay a message unasked. */
export const queryDuration = (description: string, options: { default?: string } = {}) =>
  Type.String({ description: `${description} ${DURATION_TEXT}`, maxLength: 24, ...options })
/** A duration in a JSON body: a string, or a number of seconds. */
export const bodyDuration = (description: string) =>
  Type.Union([Type.String({ maxLength: 24 }), Type.Number({ minimum: 0 })], {
    description: `${description} ${DURATION_TEXT}`,
    examples: ['30s'],
  })

/** How long a message waits before another attempt. */
export const BackoffSchema = Type.Object(
  {
    initial: Type.Optional(bodyDuration('The wait before the second attempt, from 100ms to 30d. Default: 1s.')),
    factor: Type.Optional(
      Type.Number({ minimum: 1, maximum: 100, default: 2, description: 'Each wait is the previous one times this factor.' }),
    ),
    max: Type.Optional(
      bodyDuration('The longest wait, up to 30d and not below `initial`. Default: 10m, or `initial` if that is longer.'),
    ),
    jitter: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        default: 0.2,
        description: 'The share by which each wait randomly varies, up or down.',
      }),
    ),
  },
  { ...strict, examples: [{ initial: '1s', factor: 2, max: '10m', jitter: 0.2 }] },
)
/** A backoff with all its members, as the gateway returns it. */
export const FullBackoffSchema = Type.Object(
  { initial: Type.String(), factor: Type.Number(), max: Type.String(), jitter: Type.Number() },
  strict,
)

export const ArgumentsSchema = anyObject({
  description: 'AMQP arguments. A value of a type that JSON does not have is tagged, as in message headers.',
  examples: [{ 'x-max-length': 1000 }],
})
