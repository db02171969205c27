// Names, durations and other small parts of requests.

import { Type } from 'typebox'

export const strict = { additionalProperties: false } as const

export const QueueNameSchema = Type.String({
  description: "The queue's name, 1 to 255 bytes, percent-encoded as one path segment.",
})
export const ExchangeNameSchema = Type.String({
  description: "The exchange's name, percent-encoded as one path segment; `amq.default` is the default exchange.",
})

const DURATION_TEXT = 'A number with a unit (`500ms`, `30s`, `5m`, `1h`); a bare number is seconds.'
/** In the query. Without an example: Swagger UI fills a form in with it, and a delay that nobody asked for is a trap. */
export const queryDuration = (description: string, options: { default?: string } = {}) =>
  Type.String({ description: `${description} ${DURATION_TEXT}`, maxLength: 24, ...options })
/** In a JSON body, where a bare number may be a number. */
export const bodyDuration = (description: string) =>
  Type.Union([Type.String({ maxLength: 24 }), Type.Number({ minimum: 0 })], {
    description: `${description} ${DURATION_TEXT}`,
    examples: ['30s'],
  })

/** How long a message waits before another attempt. */
export const BackoffSchema = Type.Object(
  {
    initial: Type.Optional(bodyDuration('Before the second attempt; `1s` where it is not given, `100ms` at least.')),
    factor: Type.Optional(
      Type.Number({ minimum: 1, maximum: 100, default: 2, description: 'Each wait is so many times the last.' }),
    ),
    max: Type.Optional(bodyDuration('No wait is longer; `10m` where it is not given, `30d` at most.')),
    jitter: Type.Optional(
      Type.Number({ minimum: 0, maximum: 1, default: 0.2, description: 'Share of a wait by which it may be shorter or longer.' }),
    ),
  },
  { ...strict, examples: [{ initial: '1s', factor: 2, max: '10m', jitter: 0.2 }] },
)
/** The same with everything said. */
export const FullBackoffSchema = Type.Object(
  { initial: Type.String(), factor: Type.Number(), max: Type.String(), jitter: Type.Number() },
  strict,
)

export const ArgumentsSchema = Type.Object(
  {},
  {
    additionalProperties: true,
    description: 'AMQP arguments; what JSON has no type for is tagged, as in message headers.',
    examples: [{ 'x-max-length': 1000 }],
  },
)
