// RFC 9457 problems, and the responses of a route that may fail with them.

import { Type } from 'typebox'
import { catalogue, type ProblemCode } from '../problems.js'
import { ref } from './common.js'

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'A link to the explanation of the code.' }),
    title: Type.String(),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String({ description: 'What is wrong with this request. For people; may change.' }),
    instance: Type.String({ description: 'The path of the request.' }),
    code: Type.Enum(Object.keys(catalogue), { description: 'The stable code of the problem, for programs.' }),
    request_id: Type.String(),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later. `retry-after` says when, in seconds.' }),
    errors: Type.Optional(
      Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }), {
        description: 'The mistakes in the request, up to 20, each with its place as a JSON pointer.',
      }),
    ),
    message_id: Type.Optional(Type.String({ description: 'The id of the message. Publish it again with the same id.' })),
  },
  { $id: 'Problem', description: 'Why the request failed (RFC 9457).' },
)

/** The problems that any request may get. */
const ALWAYS_POSSIBLE: ProblemCode[] = ['invalid_request', 'access_refused', 'internal_error', 'overloaded', 'shutting_down']
/** The problems of every route that asks for credentials. */
const GUARDED: ProblemCode[] = ['unauthorized', 'rate_limited']

/** Typed without members: a handler throws problems, so none of them is a reply that it may send. */
type ProblemResponses = object

/** The responses by status of a route that may fail with these codes, and with those that any route may. */
export function problems(...codes: ProblemCode[]): ProblemResponses {
  return openProblems(...GUARDED, ...codes)
}

/** The same as `problems` for a route that does not ask for credentials. */
export function openProblems(...codes: ProblemCode[]): ProblemResponses {
  const byStatus: Record<number, ReturnType<typeof problemResponse>> = {}
  const all = [...new Set([...ALWAYS_POSSIBLE, ...codes])]
  for (const status of new Set(all.map((code) => catalogue[code].status))) {
    byStatus[status] = problemResponse(all.filter((code) => catalogue[code].status === status))
  }
  return byStatus
}

function problemResponse(codes: ProblemCode[]) {
  return {
    description: codes.map((code) => `\`${code}\`: ${catalogue[code].title}.`).join(' '),
    content: { 'application/problem+json': { schema: ref(ProblemSchema) } },
  }
}

/** The problems of every route that talks to RabbitMQ, in the vhost that the path may name. */
export const BROKER: ProblemCode[] = ['vhost_not_found', 'broker_unavailable', 'broker_timeout', 'access_refused']
