// Batches.

import { Type } from 'typebox'
import { bodyDuration, ref, strict } from './common.js'
import { PropertiesSchema } from './message.js'
import { ProblemSchema } from './problem.js'

const BatchItemSchema = Type.Object(
  {
    payload: Type.Any({ description: 'The message, in the form that `payload_encoding` names.' }),
    payload_encoding: Type.Optional(
      Type.Enum(['json', 'string', 'base64'], { description: 'Without it: string for a JSON string, json for anything else.' }),
    ),
    properties: Type.Optional(ref(PropertiesSchema)),
    routing_key: Type.Optional(Type.String({ description: 'To exchanges only.' })),
    delay: Type.Optional(
      bodyDuration('How long to wait before the message is delivered, from 100ms to 30d. Not together with an `expiration`.'),
    ),
    id: Type.Optional(Type.String({ maxLength: 255, description: 'Comes back in the result.' })),
  },
  strict,
)

export const BatchSchema = Type.Object(
  { messages: Type.Array(BatchItemSchema, { minItems: 1, maxItems: 10_000 }) },
  { $id: 'Batch', ...strict, examples: [{ messages: [{ payload: 'first' }, { payload: { order: 2 }, id: 'b' }] }] },
)

export const BatchResultSchema = Type.Object(
  {
    index: Type.Integer({ minimum: 0, description: 'Which message it was, from 0.' }),
    id: Type.Optional(Type.String({ description: 'The one that came with the message.' })),
    status: Type.Enum(['confirmed', 'unroutable', 'rejected', 'invalid', 'unknown']),
    message_id: Type.Optional(Type.String()),
    problem: Type.Optional(ref(ProblemSchema)),
  },
  { $id: 'BatchResult', ...strict, description: 'What became of one message. A line of an NDJSON answer is one.' },
)

export const BatchResultsSchema = Type.Object(
  { published: Type.Integer(), failed: Type.Integer(), results: Type.Array(ref(BatchResultSchema)) },
  { $id: 'BatchResults', ...strict },
)
