// What a redrive does with one message: whether it matches, where it goes, and with which headers.

import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { authorizePublish } from '../access/authorize-publish.js'
import { DEFAULT_EXCHANGE, type Rights } from '../access/rights.js'
import { type FieldTable, TypedValue } from '../amqp/wire/field-table.js'
import type { PublishMessage, ReceivedMessage } from '../amqp/wire/message.js'
import { ATTEMPTS_HEADER, DELIVERIES_HEADER, QUEUE_HEADER } from '../amqp/wire/reserved.js'
import { tableToJson } from '../messages/headers.js'
import { type Death, deathsOf } from '../messages/x-death.js'
import { Problem } from '../problems.js'
import type { RedriveFilter, RedriveRequest, RedriveTarget } from './task.js'

export type Decision =
  | { kind: 'skip' }
  /** It matches, and cannot be moved. */
  | { kind: 'refuse'; problem: Problem }
  | { kind: 'move'; message: PublishMessage }

export interface MoveRules {
  request: RedriveRequest
  rights: Rights
  /** The only `user_id` that the gateway may publish with. */
  username: string
}

/** Headers about deaths and deliveries, by RabbitMQ and the gateway, and CC and BCC, which would route the message again. */
const BROKER_HEADERS = new Set([
  'x-death',
  'x-delivery-count',
  'x-acquired-count',
  DELIVERIES_HEADER,
  ATTEMPTS_HEADER,
  QUEUE_HEADER,
  'CC',
  'BCC',
])
const BROKER_HEADER_PREFIXES = ['x-first-death-', 'x-last-death-', 'x-opt-']

/** Decides about one message. Never throws. */
export function decide(incoming: ReceivedMessage, { request: order, rights, username }: MoveRules): Decision {
  const { headers } = incoming.properties
  const death = deathIn(order.queue, headers)
  if (order.filter && !matches(order.filter, headers, death)) return { kind: 'skip' }
  const place = order.to ? destinationOf(order.to, incoming) : originOf(death, order.queue)
  if (!place) return { kind: 'skip' }
  const { messageId = randomUUID(), userId, headers: _, ...rest } = incoming.properties
  const message: PublishMessage = {
    ...place,
    body: incoming.body,
    properties: { ...rest, messageId, headers: withoutBrokerHeaders(headers), ...(userId === username && { userId }) },
  }
  const problem = moveProblem(message, incoming, order, rights)
  return problem ? { kind: 'refuse', problem } : { kind: 'move', message }
}

type Destination = Pick<PublishMessage, 'exchange' | 'routingKey'>

/** The death that brought it here: the last one in another queue. */
function deathIn(queue: string, headers: FieldTable | undefined): Death | undefined {
  const deaths = deathsOf(headers)
  return deaths?.find((death) => death.queue !== queue) ?? deaths?.[0]
}

function originOf(death: Death | undefined, queue: string): Destination | undefined {
  return death && death.queue !== queue ? { exchange: '', routingKey: death.queue } : undefined
}

function destinationOf(to: RedriveTarget, { routingKey }: ReceivedMessage): Destination {
  if ('queue' in to) return { exchange: '', routingKey: to.queue }
  return { exchange: to.exchange === DEFAULT_EXCHANGE ? '' : to.exchange, routingKey: to.routing_key ?? routingKey }
}

function moveProblem(
  message: PublishMessage,
  { properties }: ReceivedMessage,
  { vhost, queue }: RedriveRequest,
  rights: Rights,
): Problem | undefined {
  const { exchange, routingKey } = message
  // Unreadable headers may contain a CC.
  if (properties.headers instanceof TypedValue)
    return new Problem('invalid_message', 'The headers of the message cannot be read.')
  if (exchange === '' && routingKey === queue)
    return new Problem('invalid_request', 'A message would come back to its own queue.')
  try {
    authorizePublish(rights, vhost, message)
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

function withoutBrokerHeaders(headers: FieldTable | undefined): FieldTable | undefined {
  if (!headers) return undefined
  const rest: FieldTable = Object.create(null)
  for (const name in headers) {
    const isOfPast = BROKER_HEADERS.has(name) || BROKER_HEADER_PREFIXES.some((prefix) => name.startsWith(prefix))
    if (!isOfPast) rest[name] = headers[name]!
  }
  return rest
}
