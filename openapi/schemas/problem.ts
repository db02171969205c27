// RFC 9457 problems, and how a route says which of them it may answer.

import { Type } from 'typebox'
import { catalogue, type ProblemCode } from '../problems.js'
import { ref } from './common.js'

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'A link to what the code means.' }),
    title: Type.String(),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String({ description: 'What is wrong with this very request.' }),
    instance: Type.String({ description: 'The path of the request.' }),
    code: Type.Enum(Object.keys(catalogue), { description: 'Stable; for programs.' }),
    request_id: Type.String(),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later; `retry-after` says when.' }),
    errors: Type.Optional(
      Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }), {
        description: 'Every mistake and where it is.',
      }),
    ),
    message_id: Type.Optional(Type.String({ description: 'The id to publish the message again with.' })),
  },
  { $id: 'Problem', description: 'Why the request failed (RFC 9457).' },
)

/** What any request may be answered, whatever it asks for. */
const ALWAYS_POSSIBLE: ProblemCode[] = ['invalid_request', 'access_refused', 'internal_error', 'overloaded', 'shutting_down']
/** What any request may be answered that is not open to everybody. */
const GUARDED: ProblemCode[] = ['unauthorized', 'rate_limited']

/** Typed without members: a handler throws problems, so none of them is a reply that it may send. */
type ProblemResponses = object

/** The responses of a route that fails with these codes, by status. */
export function problems(...codes: ProblemCode[]): ProblemResponses {
  return openProblems(...GUARDED, ...codes)
}

/** The same for a route that does not authenticate. */
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

/** The problems of every call that talks to the broker, in a vhost that the path may name. */
export const BROKER: ProblemCode[] = ['vhost_not_found', 'broker_unavailable', 'broker_timeout', 'access_refused']
