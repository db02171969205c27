// How to receive: in the query, or in the body of a POST.

import { type TSchema, Type } from 'typebox'
import { bodyDuration, queryDuration, strict } from './common.js'

/**
 * The parameters of a receive.
 * @param duration makes the schema of a duration
 * @param filledIn whether the validator fills in the defaults; otherwise only the descriptions name them, and what the client
 *   has left out stays absent
 */
function receiveParameters<Duration extends TSchema>(
  duration: (description: string, options?: { default?: string }) => Duration,
  filledIn: boolean,
) {
  const withDefault = <T extends string | number>(description: string, value: T) =>
    filledIn ? { description, default: value } : { description: `${description} Default: ${value}.` }
  const wait = withDefault('How long to wait for the first message, up to 60s.', '0s')
  return {
    ack: Type.Optional(
      Type.Enum(
        ['manual', 'auto', 'requeue'],
        withDefault(
          'manual: each message comes under a lease. auto: messages are acked once the answer is written. requeue: messages return to their queue at once.',
          'manual',
        ),
      ),
    ),
    max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, ...withDefault('Maximum number of messages to receive.', 1) })),
    wait: Type.Optional(duration(wait.description, filledIn ? { default: '0s' } : {})),
    lease: Type.Optional(
      duration('How long a lease lasts, from 1s. Default: 30s, or the longest lease that the gateway allows.'),
    ),
    encoding: Type.Optional(Type.Enum(['auto', 'string', 'base64'], withDefault('The encoding of the payload in JSON.', 'auto'))),
    format: Type.Optional(
      Type.Enum(['json', 'raw'], { description: 'The form of the answer. By default the `Accept` header decides.' }),
    ),
  }
}

/** The query of a receive by GET. */
export const ReceiveQuerySchema = Type.Object(receiveParameters(queryDuration, true), strict)
/** The query of a receive by POST, which may also have the parameters in its body. */
export const ReceiveByPostQuerySchema = Type.Object(receiveParameters(queryDuration, false), strict)
export const ReceiveOrderSchema = Type.Object(receiveParameters(bodyDuration, false), {
  $id: 'ReceiveOrder',
  ...strict,
  description: 'What to receive. Every member is optional, and each may be in the query instead.',
  examples: [{ max: 10, wait: '20s' }, {}],
})
