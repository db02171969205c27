// Many messages at once. One bad message fails alone; a result says no more than is known.

import type { Identity } from './access/identity.js'
import { admit } from './access/publishing.js'
import type { Vhost, Vhosts } from './amqp/vhost.js'
import type { Config } from './config.js'
import { type Entry, type EntryTarget, readEntry, readEvent } from './messages/entry.js'
import { arrayItems, objectMembers } from './messages/slices.js'
import { invalidRequest, Problem } from './problems.js'

export type BatchStatus = 'confirmed' | 'unroutable' | 'rejected' | 'invalid' | 'unknown'

export interface BatchResult {
  index: number
  id?: string
  status: BatchStatus
  message_id?: string
  problem?: Record<string, unknown>
}

export interface BatchRequest {
  author: Identity
  vhost: string | undefined
  to: 'queue' | 'exchange'
  exchange: string
  routingKey: string
  /** Path and id of the request, for the problems of single messages. */
  instance: string
  requestId: string
}

const MAX_MESSAGES = 10_000

/** Publishes the messages of one request, each on its own, in order. */
export class Batch {
  readonly #vhost: Vhost
  readonly #request: BatchRequest
  readonly target: EntryTarget

  private constructor(vhost: Vhost, request: BatchRequest, target: EntryTarget) {
    this.#vhost = vhost
    this.#request = request
    this.target = target
  }

  /**
   * Looks the queue or exchange up, so that what is wrong for all messages is one problem.
   * @throws Problem queue_not_found, exchange_not_found, broker_unavailable, broker_blocked
   */
  static async begin(vhosts: Vhosts, config: Config, request: BatchRequest): Promise<Batch> {
    const vhost = await vhosts.get(request.vhost)
    const { author, to, exchange, routingKey } = request
    const username = author.setsUserId ? vhosts.username : undefined
    if (to === 'queue') await vhost.topology.queue(routingKey)
    else await vhost.topology.exchange(exchange)
    vhost.publisher.check()
    return new Batch(vhost, request, { to, exchange, routingKey, username, maxSize: config.MAX_MESSAGE_SIZE })
  }

  /** Publishes what `read` gives, and resolves with its result: never a rejection. */
  async publish(index: number, read: () => Entry): Promise<BatchResult> {
    let entry: Entry | undefined
    try {
      entry = read()
      admit(this.#author(), this.#vhost.name, entry.message)
      const routed = await this.#vhost.publisher.publish(entry.message)
      return routed ? this.#result(index, entry, 'confirmed') : this.#result(index, entry, 'unroutable', this.#unroutable(entry))
    } catch (error) {
      const problem =
        error instanceof Problem ? error : new Problem('internal_error', 'This is a defect of the gateway.', { cause: error })
      return this.#result(index, entry, statusOf(problem), problem)
    }
  }

  /** Resolves when a message of that size may be written without piling up. */
  async room(bytes: number): Promise<void> {
    await this.#vhost.publisher.room(bytes)
  }

  /** Who he is by now: a batch of lines lasts as long as its client likes. */
  #author(): Identity {
    const author = this.#request.author.current()
    if (!author) throw new Problem('unauthorized', 'The credentials of the request are over.')
    return author
  }

  #unroutable({ message: { exchange, routingKey } }: Entry): Problem {
    return exchange === ''
      ? new Problem('queue_not_found', `There is no queue '${routingKey}'. The message was not stored.`)
      : new Problem('unroutable', `No queue is bound to exchange '${exchange}' for that message. It was not stored.`)
  }

  #result(index: number, entry: Entry | undefined, status: BatchStatus, problem?: Problem): BatchResult {
    const { instance, requestId } = this.#request
    return {
      index,
      ...(entry?.id !== undefined && { id: entry.id }),
      status,
      ...(entry && { message_id: entry.message.properties.messageId }),
      ...(problem && { problem: problem.body(instance, requestId) }),
    }
  }
}

function statusOf({ code }: Problem): BatchStatus {
  if (code === 'invalid_message' || code === 'message_too_large') return 'invalid'
  return code === 'publish_outcome_unknown' || code === 'internal_error' ? 'unknown' : 'rejected'
}

/**
 * Publishes a JSON batch, `{"messages": […]}`, or a CloudEvents batch, `[…]`, and resolves with a result each, in order.
 * @throws Problem invalid_request where the batch as a whole is none
 */
export async function publishAll(batch: Batch, text: string, kind: 'json' | 'cloudevents'): Promise<BatchResult[]> {
  const items = kind === 'json' ? messagesOf(text) : eventsOf(text)
  if (items.length === 0) throw invalidRequest(kind === 'json' ? '/body/messages' : '/body', 'is empty')
  if (items.length > MAX_MESSAGES) throw invalidRequest('/body', `has ${items.length} messages, and ${MAX_MESSAGES} is the limit`)
  const results: Promise<BatchResult>[] = []
  for (const [index, { start, end }] of items.entries()) {
    await batch.room(end - start)
    const read = () => (kind === 'json' ? readEntry(text, start, batch.target) : readEvent(text, start, end, batch.target))
    results.push(batch.publish(index, read))
  }
  return Promise.all(results)
}

function messagesOf(text: string) {
  const json = parse(text)
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw invalidRequest('/body', 'must be an object with messages')
  const unknown = Object.keys(json).find((name) => name !== 'messages')
  if (unknown !== undefined) throw invalidRequest(`/body/${unknown.slice(0, 64)}`, 'is not known here')
  if (!Array.isArray((json as { messages?: unknown }).messages)) throw invalidRequest('/body/messages', 'must be an array')
  return arrayItems(text, objectMembers(text).get('messages')!.start)
}

function eventsOf(text: string) {
  if (!Array.isArray(parse(text))) throw invalidRequest('/body', 'must be an array of events')
  return arrayItems(text)
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw invalidRequest('/body', `is not JSON: ${(error as Error).message.slice(0, 200)}`)
  }
}
