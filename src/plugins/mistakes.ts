// What to tell a client about a request that does not fit its route: which part is wrong, and what was probably meant.

import type { ErrorObject } from 'ajv'
import type { FastifyError, FastifyRequest } from 'fastify'
import { schemas } from '../../openapi/document.js'
import { meant } from '../lib/nearest.js'
import { escapePointer } from '../messages/headers.js'
import { mediaTypeOf, NDJSON_TYPES } from '../messages/media-type.js'
import { type FieldError, Problem } from '../problems.js'

const PARTS: Record<string, string> = { querystring: '/query', params: '/path', headers: '/header', body: '/body' }
/** More names than these are no help. */
const MAX_LISTED = 12
const FORM_TYPES = ['application/x-www-form-urlencoded', 'multipart/form-data']

/** The problem of a body whose media type the route does not take. It names those that the route takes. */
export function unsupportedType({ headers, routeOptions: { schema } }: FastifyRequest): Problem {
  const taken = (schema as { consumes?: string[] } | undefined)?.consumes ?? ['application/json']
  const essence = mediaTypeOf(headers['content-type'])?.essence
  const given = essence ?? headers['content-type']?.slice(0, 100)
  const notes = []
  if (given === undefined) notes.push('The request has no content-type.')
  else
    notes.push(`The content-type is ${given}${FORM_TYPES.includes(given) ? ', the default of curl and of other clients' : ''}.`)
  notes.push(`Send ${listed(taken, 'or')}.`)
  if (taken.includes(NDJSON_TYPES[0])) notes.push(`${NDJSON_TYPES[0]} has one message a line, each as a JSON object.`)
  return new Problem('unsupported_media_type', notes.join(' '))
}

/** The problem of a request that its schemas refuse, with every mistake. */
export function validationProblem(error: FastifyError, request: FastifyRequest): Problem {
  const context = error.validationContext ?? 'body'
  const part = PARTS[context] ?? ''
  const errors = (error.validation as ErrorObject[]).map((one): FieldError => {
    const { instancePath, keyword, params, message = 'is not valid' } = one
    const pointer = part + instancePath
    if (keyword === 'required') return { pointer: `${pointer}/${params['missingProperty']}`, detail: 'is missing' }
    if (keyword === 'enum')
      return { pointer, detail: `must be one of ${(params['allowedValues'] as unknown[]).join(', ')}${ofEnum(one)}` }
    if (keyword === 'type' && params['type'] === 'boolean')
      return { pointer, detail: `must be true or false${unquoted(one, part)}` }
    if (keyword !== 'additionalProperties') return { pointer, detail: message }
    const name = String(params['additionalProperty']).slice(0, 64)
    const depth = instancePath === '' ? elsewhere(name, part, request) : undefined
    return {
      pointer: `${pointer}/${escapePointer(name)}`,
      detail: `is unknown${depth ?? nearOrKnown(name, membersOf(one.parentSchema))}`,
    }
  })
  const detail = errors.map(({ pointer, detail }) => `${pointer} ${detail}`).join('; ')
  return new Problem('invalid_request', detail.slice(0, 1000), { errors })
}

function ofEnum({ data, params }: ErrorObject): string {
  const near = typeof data === 'string' ? meant(data, (params['allowedValues'] as unknown[]).map(String)) : undefined
  return near === undefined ? '' : `: did you mean ${near}?`
}

const unquoted = ({ data }: ErrorObject, part: string): string =>
  part === '/body' && (data === 'true' || data === 'false') ? ', without quotes' : ''

/** For a name that the other part of the request has: people look for `lease` in the query and in the body. */
function elsewhere(name: string, part: string, { routeOptions: { schema } }: FastifyRequest): string | undefined {
  const inBody = membersOf(schema?.body)
  if (part === '/query' && inBody.includes(name)) return ' in the query: it is a member of the JSON body'
  if (part === '/body' && membersOf(schema?.querystring).includes(name)) return ' in the body: it is a query parameter'
  return undefined
}

function nearOrKnown(name: string, known: string[]): string {
  const near = meant(name, known)
  if (near !== undefined) return `: did you mean ${near}?`
  if (known.length === 0) return ': there are none here'
  return known.length > MAX_LISTED ? '' : `. Known here: ${known.join(', ')}`
}

/** The names of an object's members. @param schema of the object, or a reference to it */
function membersOf(schema: unknown): string[] {
  const { $ref, properties } = (schema ?? {}) as { $ref?: string; properties?: object }
  if ($ref !== undefined) return membersOf(schemas.find((one) => (one as { $id?: string }).$id === $ref))
  return Object.keys(properties ?? {})
}

const listed = (names: readonly string[], word: 'or'): string =>
  names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} ${word} ${names.at(-1)}`
