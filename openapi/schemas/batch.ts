// Batches of messages, and the results of publishing them.

import { Type } from 'typebox'
import { bodyDuration, ref, strict } from './common.js'
import { PropertiesSchema } from './message.js'
import { ProblemSchema } from './problem.js'

const BatchItemSchema = Type.Object(
  {
    payload: Type.Any({ description: 'The body of the message, in the form that `payload_encoding` names.' }),
    payload_encoding: Type.Optional(
      Type.Enum(['json', 'string', 'base64'], {
        description:
          'How the payload is written: as JSON, as a string, or as base64. Default: `string` for a JSON string, `json` for any other value.',
      }),
    ),
    properties: Type.Optional(ref(PropertiesSchema)),
    routing_key: Type.Optional(Type.String({ description: 'The routing key. Only for a batch to an exchange.' })),
    delay: Type.Optional(
      bodyDuration('Deliver the message after this time, from 100ms to 30d. Cannot be combined with an `expiration`.'),
    ),
    id: Type.Optional(Type.String({ maxLength: 255, description: 'An id for the result of this message.' })),
  },
  strict,
)

export const BatchSchema = Type.Object(
  { messages: Type.Array(BatchItemSchema, { minItems: 1, maxItems: 10_000 }) },
  { $id: 'Batch', ...strict, examples: [{ messages: [{ payload: 'first' }, { payload: { order: 2 }, id: 'b' }] }] },
)

export const BatchResultSchema = Type.Object(
  {
    index: Type.Integer({ minimum: 0, description: 'The position of the message in the batch, from 0.' }),
    id: Type.Optional(Type.String({ description: 'The `id` of the message in the batch.' })),
    status: Type.Enum(['confirmed', 'unroutable', 'rejected', 'invalid', 'unknown']),
    message_id: Type.Optional(Type.String()),
    problem: Type.Optional(ref(ProblemSchema)),
  },
  { $id: 'BatchResult', ...strict, description: 'The result of one message. Each line of an NDJSON answer is one.' },
)

export const BatchResultsSchema = Type.Object(
  { published: Type.Integer(), failed: Type.Integer(), results: Type.Array(ref(BatchResultSchema)) },
  { $id: 'BatchResults', ...strict },
)
