// What a redrive does with one message: whether it matches, where it goes, and with which headers.

import { isDeepStrictEqual } from 'node:util'
import { authorizePublish } from '../access/authorize-publish.js'
import { DEFAULT_EXCHANGE, type Rights } from '../access/rights.js'
import { type Copy, copyOf, isStraight } from '../amqp/wire/copy.js'
import { isRoutingHeader } from '../amqp/wire/encoded-table.js'
import { type FieldTable, TypedValue } from '../amqp/wire/field-table.js'
import type { ReceivedMessage } from '../amqp/wire/message.js'
import type { OwnRecord } from '../amqp/wire/own-headers.js'
import { tableToJson } from '../messages/headers.js'
import { type Death, deathsOf } from '../messages/x-death.js'
import { Problem } from '../problems.js'
import type { RedriveFilter, RedriveRequest, RedriveTarget } from './task.js'

/** `queue`: the only queue that gets it; undefined: its exchange routes it. */
export interface Move {
  kind: 'move'
  queue: string | undefined
  message: Copy
}

export type Decision =
  | { kind: 'skip' }
  /** It matches, and cannot be moved. */
  | { kind: 'refuse'; problem: Problem }
  | Move

export interface MoveRules {
  request: RedriveRequest
  rights: Rights
  /** The only `user_id` that the gateway may publish with. */
  username: string
}

/**
 * Whether RabbitMQ records deaths in the header. They do not move with the message: a message that dies by itself in the same
 * queues again would go round in a circle for RabbitMQ, which drops it then.
 */
const isDeathRecord = (name: string): boolean =>
  name === 'x-death' || ['x-first-death-', 'x-last-death-', 'x-opt-'].some((prefix) => name.startsWith(prefix))

/** Decides about one message. Never throws. */
export function decide(incoming: ReceivedMessage, { request: order, rights, username }: MoveRules): Decision {
  const { headers } = incoming.properties
  const death = deathIn(order.queue, headers)
  if (order.filter && !matches(order.filter, headers, death)) return { kind: 'skip' }
  const place = order.to ? destinationOf(order.to, incoming, death) : originOf(death, order.queue)
  if (!place) return { kind: 'skip' }
  const { queue, exchange, routingKey } = place
  const message = copyOf(
    { ...incoming, exchange, routingKey },
    {
      username,
      record: queue === undefined ? undefined : recordOf(incoming, queue, place),
      // An exchange would route it by CC and BCC again.
      removes: (name) => isDeathRecord(name) || (queue === undefined && isRoutingHeader(name)),
    },
  )
  const problem = moveProblem(place, incoming, order, rights)
  return problem ? { kind: 'refuse', problem } : { kind: 'move', queue, message }
}

/** Where a message goes: into one queue, with the exchange and the key that it was published with; or to an exchange. */
interface Destination {
  queue?: string
  exchange: string
  routingKey: string
}

/** What the gateway keeps on a message that moves into a queue; undefined: nothing. */
function recordOf(
  { properties, expiresAt }: ReceivedMessage & { expiresAt?: number | undefined },
  queue: string,
  { exchange, routingKey }: Destination,
): OwnRecord | undefined {
  if (isStraight({ exchange, routingKey, properties }, queue)) return expiresAt === undefined ? undefined : { queue, expiresAt }
  return { queue, exchange, expiresAt }
}

/** The death that brought it here: the last one in another queue. */
function deathIn(queue: string, headers: FieldTable | undefined): Death | undefined {
  const deaths = deathsOf(headers)
  return deaths?.find((death) => death.queue !== queue) ?? deaths?.[0]
}

function originOf(death: Death | undefined, queue: string): Destination | undefined {
  return death && death.queue !== queue ? intoQueue(death.queue, death, undefined) : undefined
}

function destinationOf(to: RedriveTarget, message: ReceivedMessage, death: Death | undefined): Destination {
  if ('queue' in to) return intoQueue(to.queue, death, message)
  return { exchange: to.exchange === DEFAULT_EXCHANGE ? '' : to.exchange, routingKey: to.routing_key ?? message.routingKey }
}

/**
 * The message keeps the key that it was published with, which `x-death` has if its queue gave it another as a dead letter.
 * Anybody may have written that header, so a key that begins with `gateway.` does not count.
 */
function intoQueue(queue: string, death: Death | undefined, message: ReceivedMessage | undefined): Destination {
  const routingKey = death?.routing_keys[0] ?? message?.routingKey ?? queue
  if (routingKey.startsWith('gateway.')) return { queue, exchange: '', routingKey: queue }
  return { queue, exchange: death?.exchange ?? message?.exchange ?? '', routingKey }
}

function moveProblem(
  place: Destination,
  { properties }: ReceivedMessage,
  { vhost, queue }: RedriveRequest,
  rights: Rights,
): Problem | undefined {
  const target = place.queue === undefined ? place : { exchange: '', routingKey: place.queue }
  // Unreadable headers may contain a CC.
  if (place.queue === undefined && properties.headers instanceof TypedValue)
    return new Problem('invalid_message', 'The headers of the message cannot be read.')
  if (target.exchange === '' && target.routingKey === queue)
    return new Problem('invalid_request', 'A message would come back to its own queue.')
  try {
    authorizePublish(rights, vhost, { ...target, properties: { messageId: '' } })
    return undefined
  } catch (error) {
    return error as Problem
  }
}

function matches({ header, reason }: RedriveFilter, headers: FieldTable | undefined, death: Death | undefined): boolean {
  if (reason !== undefined && death?.reason !== reason) return false
  return Object.entries(header ?? {}).every(([name, wanted]) => {
    const value = headers && Object.hasOwn(headers, name) ? headers[name] : undefined
    return value !== undefined && isDeepStrictEqual(JSON.parse(tableToJson({ value })).value, wanted)
  })
}
