// What several doors read from a request in the same way.

import type { Identity } from '../src/access/identity.js'
import type { Vhosts } from '../src/amqp/vhosts.js'
import type { FieldTable } from '../src/amqp/wire/field-table.js'
import { isReserved } from '../src/amqp/wire/reserved.js'
import { MAX_DELAY_MS, MIN_DELAY_MS } from '../src/delay/levels.js'
import type { Backoff } from '../src/lib/backoff.js'
import { formatDuration, parseDuration } from '../src/lib/units.js'
import { parseExact } from '../src/messages/exact-json.js'
import { tableFromJson } from '../src/messages/headers.js'
import { nameError, routingKeyError } from '../src/messages/properties.js'
import { type FieldError, invalidRequest, Problem } from '../src/problems.js'

interface Params {
  vhost?: string
  queue?: string
  exchange?: string
  destination?: string
  /** Of a definition. */
  name?: string
}

/** The only `user_id` that RabbitMQ lets a message carry; undefined where its author may set none. */
export function userIdOf({ setsUserId, login }: Identity, { username }: Vhosts): string | undefined {
  return setsUserId ? (login?.username ?? username) : undefined
}

/**
 * For what the gateway's own user carries out later, who may do more than theirs.
 * @throws Problem access_refused: it is a user of RabbitMQ, whose rights only RabbitMQ knows
 */
export function refuseLogin({ login }: Identity): void {
  if (login) throw new Problem('access_refused', 'This is not for users of RabbitMQ: it could not decide on what follows.')
}

/** A name from the path. @throws Problem invalid_request, access_refused: one that the gateway keeps to itself */
export function nameOf(params: object, part: keyof Params): string {
  const name = (params as Params)[part] ?? ''
  const detail = nameError(name)
  if (detail) throw invalidRequest(`/path/${part}`, detail)
  if (part === 'queue' && isReserved(name)) throw new Problem('access_refused', "That queue is the gateway's own.")
  return (part === 'exchange' || part === 'destination') && name === 'amq.default' ? '' : name
}

/** The vhost in the path, or undefined for the connection's own. @throws Problem invalid_request */
export function vhostOf(params: object): string | undefined {
  return (params as Params).vhost === undefined ? undefined : nameOf(params, 'vhost')
}

export function routingKeyOf(query: { routing_key?: string }): string {
  const key = query.routing_key ?? ''
  const detail = routingKeyError(key)
  if (detail) throw invalidRequest('/query/routing_key', detail)
  return key
}

/** A duration in milliseconds, within bounds. @throws Problem invalid_request */
export function durationOf(value: string | number, pointer: string, min: number, max: number): number {
  const milliseconds = parseDuration(String(value))
  if (milliseconds === undefined) throw invalidRequest(pointer, 'is not a duration like 500ms, 30s, 5m or 1h')
  if (milliseconds < min || milliseconds > max) {
    throw invalidRequest(pointer, `must be between ${formatDuration(min)} and ${formatDuration(max)}`)
  }
  return milliseconds
}

/** A delay in milliseconds; undefined where there is none. @throws Problem invalid_request */
export function delayOf(value: string | number | undefined, pointer: string): number | undefined {
  return value === undefined ? undefined : durationOf(value, pointer, MIN_DELAY_MS, MAX_DELAY_MS)
}

/** How long a lease lasts, in milliseconds: 30 seconds unless asked for, less where no lease may last so long. @throws Problem invalid_request */
export function leaseOf(value: string | number | undefined, longest: number): number {
  return value === undefined ? Math.min(30_000, longest) : durationOf(value, '/query/lease', 1000, longest)
}

/** A backoff as it stands in a body, with what was not said. */
export interface BackoffBody {
  initial?: string | number
  factor?: number
  max?: string | number
  jitter?: number
}

/** @throws Problem invalid_request */
export function backoffOf(body: BackoffBody = {}, pointer: string): Backoff {
  const { initial = '1s', factor = 2, max, jitter = 0.2 } = body
  const first = durationOf(initial, `${pointer}/initial`, MIN_DELAY_MS, MAX_DELAY_MS)
  const longest = max === undefined ? Math.max(first, 600_000) : durationOf(max, `${pointer}/max`, MIN_DELAY_MS, MAX_DELAY_MS)
  if (longest < first) throw invalidRequest(`${pointer}/max`, 'is shorter than the initial wait')
  return { initial: first, factor, max: longest, jitter }
}

/** As it is shown. */
export const backoffToJson = ({ initial, factor, max, jitter }: Backoff) => ({
  initial: formatDuration(initial),
  factor,
  max: formatDuration(max),
  jitter,
})

/** AMQP arguments, given as JSON. @throws Problem invalid_request */
export function argumentsOf(json: unknown, pointer: string): FieldTable {
  if (json === undefined) return {}
  const errors: FieldError[] = []
  const table = tableFromJson(json, pointer, errors)
  if (errors.length > 0)
    throw new Problem('invalid_request', errors.map((e) => `${e.pointer} ${e.detail}`).join('; '), { errors })
  return table
}

/** AMQP arguments in a query parameter. @throws Problem invalid_request */
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
