// Names, durations and other small parts of requests.

import { Type } from 'typebox'

export const QueueName = Type.String({ description: "The queue's name, 1 to 255 bytes, percent-encoded as one path segment." })
export const ExchangeName = Type.String({
  description: "The exchange's name, percent-encoded as one path segment; `amq.default` is the default exchange.",
})

const DURATION = 'A number with a unit (`500ms`, `30s`, `5m`, `1h`); a bare number is seconds.'
/** In the query. Without an example: Swagger UI fills a form in with it, and a delay that nobody asked for is a trap. */
export const Duration = (description: string, options: { default?: string } = {}) =>
  Type.String({ description: `${description} ${DURATION}`, maxLength: 24, ...options })
/** In a JSON body, where a bare number may be a number. */
export const BodyDuration = (description: string) =>
  Type.Union([Type.String({ maxLength: 24 }), Type.Number({ minimum: 0 })], {
    description: `${description} ${DURATION}`,
    examples: ['30s'],
  })

export const Arguments = Type.Object(
  {},
  {
    additionalProperties: true,
    description: 'AMQP arguments; what JSON has no type for is tagged, as in message headers.',
    examples: [{ 'x-max-length': 1000 }],
  },
)

export const strict = { additionalProperties: false } as const
