// Many messages in one request. A bad message fails alone, and no result claims more than is known.

import { authorizePublish, withStampedHeaders } from '../access/authorize-publish.js'
import type { Identity } from '../access/identity.js'
import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import { unroutedProblem } from '../amqp/wire/errors.js'
import { isDirectReply } from '../amqp/wire/message.js'
import type { Config } from '../config/index.js'
import type { Delays } from '../delay/delays.js'
import { MAX_DELAY_MS, MIN_DELAY_MS } from '../delay/levels.js'
import {
  type BatchMessage,
  BatchMessageProblem,
  type BatchTarget,
  readBatchEvent,
  readBatchMessage,
} from '../messages/batch-message.js'
import { arrayItems, objectMembers } from '../messages/json-slices.js'
import type { BatchStatus, Metrics } from '../metrics.js'
import { catalogue, invalidRequest, Problem, type ProblemBody, type ProblemCode } from '../problems.js'
import { checkDelay, knownRouting } from './publish.js'

export interface BatchResult {
  index: number
  id?: string
  status: BatchStatus
  message_id?: string
  problem?: ProblemBody
}

export interface BatchRequest {
  author: Identity
  vhost: string | undefined
  to: 'queue' | 'exchange'
  exchange: string
  routingKey: string
  /** False once the client has gone: then no more is published. */
  wanted: () => boolean
  /** Path and id of the request, for the problems of single messages. */
  instance: string
  requestId: string
  /** What stands before the gateway's paths, as clients see them. */
  prefix: string
}

export interface BatchServices {
  vhosts: Vhosts
  delays: Delays
  config: Config
  metrics: Metrics
}

const MAX_MESSAGES = 10_000
/** How much of a body that is no JSON is looked at for what it may be instead. */
const MAX_HINT_LENGTH = 4096
const DELAY_BOUNDS = { shortest: MIN_DELAY_MS, longest: MAX_DELAY_MS }

/** Publishes the messages of one request, each on its own, in order. */
export class Batch {
  readonly #vhost: Vhost
  readonly #services: BatchServices
  readonly #request: BatchRequest
  readonly #release: () => void
  readonly target: BatchTarget

  private constructor(vhost: Vhost, services: BatchServices, request: BatchRequest, target: BatchTarget) {
    this.#vhost = vhost
    this.#services = services
    this.#request = request
    this.#release = vhost.hold()
    this.target = target
    services.metrics.batches(1)
  }

  /**
   * Looks the queue or exchange up, so that a mistake that concerns all messages is one problem. The caller ends the batch.
   * @throws Problem queue_not_found, exchange_not_found, broker_unavailable, broker_blocked
   */
  static async begin(services: BatchServices, request: BatchRequest): Promise<Batch> {
    const { vhosts, config } = services
    const vhost = await vhosts.get(request.vhost, request.author.login)
    const { author, to, exchange, routingKey } = request
    const username = author.setsUserId ? (author.login?.username ?? vhosts.username) : undefined
    const maxSize = config.MAX_MESSAGE_SIZE
    const batch = new Batch(vhost, services, request, { to, exchange, routingKey, username, maxSize, delays: DELAY_BOUNDS })
    try {
      if (to === 'exchange') await vhost.topology.lookUpExchange(exchange)
      else if (!isDirectReply({ exchange, routingKey })) await vhost.topology.lookUpQueue(routingKey)
      await vhost.publisher.ready()
    } catch (error) {
      batch.end()
      throw error
    }
    return batch
  }

  /** False once the client has gone. */
  get wanted(): boolean {
    return this.#request.wanted()
  }

  /**
   * Publishes the message that `read` returns. Waits until there is room, and resolves once the message is written, with the
   * promise of its result in an object, since an async function would wait for it. Neither promise rejects.
   */
  async publish(index: number, read: () => BatchMessage): Promise<{ result: Promise<BatchResult> }> {
    let entry: BatchMessage | undefined
    try {
      entry = read()
      const author = this.#author()
      authorizePublish(author.rights, this.#vhost.name, entry.message)
      entry.message = withStampedHeaders(author, entry.message)
      const { confirmed } = await this.#write(entry)
      return { result: this.#outcome(index, entry, confirmed) }
    } catch (error) {
      return { result: Promise.resolve(this.#failed(index, entry, error)) }
    }
  }

  async #write({ message, delay }: BatchMessage): Promise<{ confirmed: Promise<boolean> }> {
    const { wanted } = this.#request
    if (delay === undefined) return this.#vhost.publisher.publishWhenRoom(message, wanted)
    checkDelay(this.#request.author, message)
    return this.#services.delays.publishWhenRoom({ vhost: this.#vhost.name, message }, delay, wanted)
  }

  /** Ends the batch: the vhost's connections may close. */
  end(): void {
    this.#release()
    this.#services.metrics.batches(-1)
  }

  async #outcome(index: number, entry: BatchMessage, confirmed: Promise<boolean>): Promise<BatchResult> {
    try {
      return knownRouting(entry.message, await confirmed) === false
        ? this.#result(index, 'unroutable', entry, unroutedProblem(entry.message, this.#vhost.name))
        : this.#result(index, 'confirmed', entry)
    } catch (error) {
      return this.#failed(index, entry, error)
    }
  }

  #failed(index: number, entry: BatchMessage | undefined, error: unknown): BatchResult {
    const problem =
      error instanceof Problem ? error : new Problem('internal_error', 'This is a defect of the gateway.', { cause: error })
    return this.#result(
      index,
      batchStatusOf(problem.code),
      entry ?? { id: error instanceof BatchMessageProblem ? error.id : undefined },
      problem,
    )
  }

  /** The author as they are now: a batch of lines may outlive their credentials. */
  #author(): Identity {
    const author = this.#request.author.current()
    if (!author) throw new Problem('unauthorized', 'The credentials of the request are over.')
    return author
  }

  #result(index: number, status: BatchStatus, { id, message }: Partial<BatchMessage>, problem?: Problem): BatchResult {
    const { instance, requestId, prefix } = this.#request
    this.#services.metrics.batched(status)
    return {
      index,
      ...(id !== undefined && { id }),
      status,
      ...(message && { message_id: message.properties.messageId }),
      ...(problem && { problem: problem.body(instance, requestId, prefix) }),
    }
  }
}

/** The status of a message whose publish failed with this problem. */
export function batchStatusOf(code: ProblemCode): BatchStatus {
  const { stored, scope } = catalogue[code]
  if (stored === 'unknown') return 'unknown'
  return scope === 'message' ? 'invalid' : 'rejected'
}

/**
 * Publishes a JSON batch, `{"messages": […]}`, or a CloudEvents batch, `[…]`. Resolves with a result for each message, in order;
 * with fewer if the client goes away.
 * @throws Problem invalid_request if the body is not a batch
 */
export async function publishAll(batch: Batch, text: string, kind: 'json' | 'cloudevents'): Promise<BatchResult[]> {
  try {
    if (text === '') throw invalidRequest('/body', 'is missing')
    const items = kind === 'json' ? messagesOf(text) : eventsOf(text)
    if (items.length === 0) throw invalidRequest(kind === 'json' ? '/body/messages' : '/body', 'is empty')
    if (items.length > MAX_MESSAGES)
      throw invalidRequest('/body', `has ${items.length} messages, and ${MAX_MESSAGES} is the limit`)
    const results: Promise<BatchResult>[] = []
    for (const [index, { start, end }] of items.entries()) {
      if (!batch.wanted) break
      const read = () =>
        kind === 'json' ? readBatchMessage(text, start, batch.target) : readBatchEvent(text, start, end, batch.target)
      results.push((await batch.publish(index, read)).result)
    }
    return await Promise.all(results)
  } finally {
    batch.end()
  }
}

function messagesOf(text: string) {
  const json = parseBatch(text)
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw invalidRequest('/body', 'must be an object with messages')
  const unknown = Object.keys(json).find((name) => name !== 'messages')
  if (unknown !== undefined) throw invalidRequest(`/body/${unknown.slice(0, 64)}`, 'is not known here')
  if (!Array.isArray((json as { messages?: unknown }).messages)) throw invalidRequest('/body/messages', 'must be an array')
  return arrayItems(text, objectMembers(text).get('messages')!.start)
}

function eventsOf(text: string) {
  if (!Array.isArray(parseBatch(text))) throw invalidRequest('/body', 'must be an array of events')
  return arrayItems(text)
}

function parseBatch(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const hint = /^\s*\{"?payload.*\}\s*\{/s.test(text.slice(0, MAX_HINT_LENGTH))
      ? '. One message a line is application/x-ndjson'
      : ''
    throw invalidRequest('/body', `is not JSON: ${(error as Error).message.slice(0, 200)}${hint}`)
  }
}
