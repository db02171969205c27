// What several routes read from a request in the same way.

import type { FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import type { BackoffSchema } from '../openapi/schemas/common.js'
import type { Identity } from '../src/access/identity.js'
import type { Vhosts } from '../src/amqp/vhosts.js'
import { declareArguments } from '../src/amqp/wire/crash-guards.js'
import type { FieldTable, FieldValue } from '../src/amqp/wire/field-table.js'
import { isReserved, isReservedKey } from '../src/amqp/wire/reserved.js'
import { MAX_DELAY_MS, MIN_DELAY_MS } from '../src/delay/levels.js'
import type { Backoff } from '../src/lib/backoff.js'
import { meant } from '../src/lib/nearest.js'
import { formatDuration, parseDuration } from '../src/lib/units.js'
import { unreachable } from '../src/lib/unreachable.js'
import { parseExact } from '../src/messages/exact-json.js'
import { tableFromJson } from '../src/messages/headers.js'
import { nameError, routingKeyError } from '../src/messages/properties.js'
import { type FieldError, invalidRequest, Problem } from '../src/problems.js'

/** The path parameters that name something in RabbitMQ, or a subscription. */
type NamePart = 'vhost' | 'queue' | 'exchange' | 'destination' | 'name'

const DEFAULT_LEASE_MS = 30_000
const MIN_LEASE_MS = 1000
const DEFAULT_MAX_BACKOFF_MS = 600_000

/**
 * A value that is always there, unless the gateway has a defect.
 * @param what names it in the log
 * @throws Problem internal_error: it is missing
 */
export function present<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) {
    throw new Problem('internal_error', 'This is a defect of the gateway; its log has the request id.', {
      cause: new Error(`${what} is missing`),
    })
  }
  return value
}

/** The authenticated caller. Every route that is not open to all has one. @throws Problem internal_error: the route is open */
export function identityOf({ identity }: Pick<FastifyRequest, 'identity'>): Identity {
  return present(identity, 'the identity of the caller')
}

/** The path of a request without its query, in which a client may have put a key. */
export function pathOf({ url }: Pick<FastifyRequest, 'url'>): string {
  const end = url.indexOf('?')
  return end === -1 ? url : url.slice(0, end)
}

/**
 * Which of the media types the `Accept` header prefers, by weight, then by how exactly it names them, then by its order. The
 * first one if the client has no preference or wants none of them.
 */
export function preferredType<T extends string>(request: Pick<FastifyRequest, 'accepts'>, types: readonly [T, ...T[]]): T {
  // With the charset they match a header that names it as well as one that does not.
  const offered = types.map((type) => (type === 'application/octet-stream' ? type : `${type}; charset=utf-8`))
  const chosen = request.accepts().type(offered)
  return types[typeof chosen === 'string' ? offered.indexOf(chosen) : 0] ?? types[0]
}

/** The bytes of a body that is a message; empty if the request has none. */
export function bytesOf(body: unknown): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.alloc(0)
}

/** The only `user_id` that RabbitMQ accepts from this author; undefined if they may not set one. */
export function userIdOf({ setsUserId, login }: Identity, { username }: Vhosts): string | undefined {
  return setsUserId ? (login?.username ?? username) : undefined
}

/**
 * Refuses users of RabbitMQ what the gateway's own user carries out later: it may do more than they may.
 * @throws Problem access_refused
 */
export function refuseLogin({ login }: Identity): void {
  if (login) throw new Problem('access_refused', 'RabbitMQ users cannot do this: RabbitMQ could not check their rights later.')
}

/** The refusal of a name that the gateway keeps for itself. */
export const reservedName = (): Problem =>
  new Problem('access_refused', 'Queues and exchanges whose names begin with `gateway.` belong to the gateway itself.')

/**
 * A name from the path. `amq.default` as an exchange becomes `''`.
 * @throws Problem invalid_request; access_refused: a queue or exchange that belongs to the gateway
 */
export function nameOf<Part extends NamePart>(params: { readonly [P in Part]: string }, part: Part): string {
  const name = params[part]
  const detail = nameError(name)
  if (detail) throw invalidRequest(`/path/${part}`, detail)
  const kind: NamePart = part
  switch (kind) {
    case 'queue':
      if (isReserved(name)) throw reservedName()
      return name
    case 'exchange':
    case 'destination':
      if (isReserved(name)) throw reservedName()
      return name === 'amq.default' ? '' : name
    case 'vhost':
    case 'name':
      return name
    default:
      return unreachable(kind)
  }
}

/** The vhost in the path; undefined for the connection's own. @throws Problem invalid_request */
export function vhostOf({ vhost }: { readonly vhost?: string }): string | undefined {
  return vhost === undefined ? undefined : nameOf({ vhost }, 'vhost')
}

/** The routing key in the query; empty if it is absent. @throws Problem invalid_request */
export function routingKeyOf(query: { routing_key?: string }): string {
  const key = query.routing_key ?? ''
  const detail = routingKeyError(key)
  if (detail) throw invalidRequest('/query/routing_key', detail)
  return key
}

/** A duration in milliseconds. @param min and max, inclusive, in milliseconds @throws Problem invalid_request */
export function durationOf(value: string | number, pointer: string, min: number, max: number): number {
  const milliseconds = parseDuration(String(value))
  if (milliseconds === undefined) throw invalidRequest(pointer, 'is not a duration like 500ms, 30s, 5m or 1h')
  if (milliseconds < min || milliseconds > max) {
    throw invalidRequest(pointer, `must be between ${formatDuration(min)} and ${formatDuration(max)}`)
  }
  return milliseconds
}

/** A delay in milliseconds; undefined if there is none. @throws Problem invalid_request */
export function delayOf(value: string | number | undefined, pointer: string): number | undefined {
  return value === undefined ? undefined : durationOf(value, pointer, MIN_DELAY_MS, MAX_DELAY_MS)
}

/**
 * How long a lease lasts, in milliseconds: by default 30 seconds, or the longest possible lease if that is shorter.
 * @param longest in milliseconds
 * @throws Problem invalid_request
 */
export function leaseOf(value: string | number | undefined, longest: number, pointer = '/query/lease'): number {
  return value === undefined ? Math.min(DEFAULT_LEASE_MS, longest) : durationOf(value, pointer, MIN_LEASE_MS, longest)
}

/** A backoff from a body, with the defaults for absent members. @throws Problem invalid_request */
export function backoffOf(body: Static<typeof BackoffSchema> = {}, pointer: string): Backoff {
  const { initial = '1s', factor = 2, max, jitter = 0.2 } = body
  const first = durationOf(initial, `${pointer}/initial`, MIN_DELAY_MS, MAX_DELAY_MS)
  const longest =
    max === undefined ? Math.max(first, DEFAULT_MAX_BACKOFF_MS) : durationOf(max, `${pointer}/max`, MIN_DELAY_MS, MAX_DELAY_MS)
  if (longest < first) throw invalidRequest(`${pointer}/max`, 'is shorter than the initial wait')
  return { initial: first, factor, max: longest, jitter }
}

/** The JSON form of a backoff. */
export const backoffToJson = ({ initial, factor, max, jitter }: Backoff) => ({
  initial: formatDuration(initial),
  factor,
  max: formatDuration(max),
  jitter,
})

/** AMQP arguments from their JSON form; empty if there are none. @throws Problem invalid_request */
export function argumentsOf(json: unknown, pointer: string): FieldTable {
  if (json === undefined) return {}
  const errors: FieldError[] = []
  const table = tableFromJson(json, pointer, errors)
  if (errors.length > 0)
    throw new Problem('invalid_request', errors.map((e) => `${e.pointer} ${e.detail}`).join('; '), { errors })
  return table
}

/**
 * The arguments of a queue or an exchange from their JSON form. RabbitMQ ignores names that it does not know, so a name that is
 * nearly a known one is refused.
 * @throws Problem invalid_request
 */
export function declareArgumentsOf(json: unknown): FieldTable {
  const args = argumentsOf(json, '/body/arguments')
  for (const name of Object.keys(args)) {
    if (declareArguments.includes(name)) continue
    const near = [name, `x-${name}`, name.replace(/^x-/, '')].map((one) => meant(one, declareArguments)).find(Boolean)
    if (near)
      throw invalidRequest(`/body/arguments/${name.slice(0, 64)}`, `${name} is no argument of RabbitMQ: did you mean ${near}?`)
  }
  return args
}

/**
 * Refuses arguments by which RabbitMQ would publish to the gateway's own queues or exchanges.
 * @param exchange the argument that names an exchange
 * @param key the argument that names the routing key to publish there with, if there is one
 * @throws Problem access_refused
 */
export function refuseReserved(args: FieldTable, exchange: string, key?: string): void {
  const [target, targetKey] = [textOf(args[exchange]), key === undefined ? '' : textOf(args[key])]
  if (isReserved(target) || isReservedKey(target, targetKey)) throw reservedName()
}

/** A long string as text; empty for every other value, which RabbitMQ refuses where it expects a name. */
const textOf = (value: FieldValue | undefined): string =>
  typeof value === 'string' || Buffer.isBuffer(value) ? value.toString() : ''

/** AMQP arguments in a query parameter; empty if there are none. @throws Problem invalid_request */
export function argumentsInQuery(text: string | undefined): FieldTable {
  if (text === undefined) return {}
  let json: unknown
  try {
    json = parseExact(text)
  } catch {
    throw invalidRequest('/query/arguments', 'is not JSON')
  }
  return argumentsOf(json, '/query/arguments')
}
