// The delivery of one message to an endpoint: the request, what the response means, and what happens to the message's lease.

import { randomUUID } from 'node:crypto'
import type { Delivery } from '../amqp/consume/delivery.js'
import type { Config } from '../config/index.js'
import { MIN_DELAY_MS } from '../delay/levels.js'
import type { LeaseCommand } from '../leases/commands.js'
import type { Leases } from '../leases/leases.js'
import type { CopyChanges } from '../leases/settlements.js'
import type { Lease } from '../leases/table.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { UnfitForHttp } from '../messages/raw.js'
import { isRetryable } from '../problems.js'
import type { AddressPolicy } from './address-policy.js'
import { Endpoint, RequestFailed } from './endpoint.js'
import type { PushMetrics, PushOutcome } from './metrics.js'
import { type DeliveryRequest, deliveryRequest } from './request.js'
import { classifyResponse, type ResponseOutcome } from './response.js'
import { webhookId } from './signature.js'
import { backoffAfter, type Subscription } from './subscription.js'
import type { DeliveryWindow } from './window.js'

/** What this instance knows about a subscription's deliveries. Times are on the monotonic clock; 0: never. */
export interface DeliveryStats {
  delivered: number
  failed: number
  lastSuccess: number
  lastFailure: number
  lastError?: { text: string; at: number }
  nextAttempt?: number | undefined
}

export interface DelivererOptions {
  vhost: string
  name: string
  config: Config
  log: Log
  metrics: PushMetrics
  leases: Leases
  addresses: AddressPolicy
  window: DeliveryWindow
  stats: DeliveryStats
  /** The subscription's current definition. */
  subscription: () => Subscription
  isDeleted: () => boolean
  /** Pauses the subscription. Resolves when the pause is stored, or its first attempt has failed. */
  pause: (reason: string) => Promise<void>
  /** Called when the room in the window changes. */
  onRoom: () => void
}

/** Between attempts to publish the copy of a message for which RabbitMQ has no room, and the duration of its lease until then. */
const RETRY_REPUBLISH_MS = 1000
const HELD_LEASE_MS = 30_000

/** How a message comes again. */
interface Republish {
  /** In milliseconds. */
  wait: number
  /** Deliveries that have failed so far. */
  attempts: number
  changes: CopyChanges
}

/** The subscription's format cannot carry the message. The endpoint is not at fault. */
class UnsendableMessage extends Error {}

/** Delivers messages of one subscription, and settles them by the responses. */
export class Deliverer {
  /** Messages that wait for a response, or for their copy to be published. */
  exchanging = 0
  /** Messages that the endpoint has accepted with 202 and not settled. */
  accepted = 0
  readonly #options: DelivererOptions
  #endpoint: Endpoint | undefined
  /** Former endpoints with running requests. */
  readonly #former = new Set<Endpoint>()
  #closed = false

  constructor(options: DelivererOptions) {
    this.#options = options
  }

  /** Delivers one message and settles it. Resolves when that is done. Never rejects. */
  async deliver(delivery: Delivery, lease: Lease): Promise<void> {
    this.exchanging++
    const { log, name, vhost } = this.#options
    try {
      await this.#deliver(delivery, lease)
    } catch (error) {
      // Its lease expires by itself.
      log.error({ err: error, vhost, subscription: name }, 'defect: a delivery failed')
    } finally {
      this.exchanging--
      this.#options.onRoom()
    }
  }

  /** Keeps the text of the last error. */
  note(text: string): void {
    this.#options.stats.lastError = { text, at: now() }
  }

  /** Connects again for the next delivery, to a changed endpoint. Resolves when the old one has its last responses. */
  async replaceEndpoint(): Promise<void> {
    const endpoint = this.#endpoint
    if (!endpoint) return
    this.#endpoint = undefined
    this.#former.add(endpoint)
    await endpoint.retire()
    this.#former.delete(endpoint)
  }

  /** Aborts running deliveries, and leaves their messages leased. */
  async close(): Promise<void> {
    this.#closed = true
    void this.replaceEndpoint()
    await Promise.all([...this.#former].map((endpoint) => endpoint.close()))
  }

  async #deliver(delivery: Delivery, lease: Lease): Promise<void> {
    const { window: flow, subscription, stats: told } = this.#options
    const before = delivery.attempts
    // A message without an id gets one, which its copies keep.
    const messageId = delivery.properties.messageId || delivery.own?.messageId || randomUUID()
    const verdict = await this.#exchange(delivery, lease, webhookId(messageId))
    if (this.#closed) return // close() gives the leases back
    switch (verdict.kind) {
      case 'delivered':
      case 'accepted':
        flow.succeeded()
        told.lastSuccess = now()
        told.nextAttempt = undefined
        told.delivered++
        this.#count(verdict.kind)
        if (verdict.kind === 'accepted') this.#hold(lease)
        else this.#run({ id: lease.id, op: 'settle', action: 'ack' }) // the next delivery does not wait for it
        return
      case 'slowed': {
        const rest = flow.slowed(verdict.rest)
        this.#count('slowed')
        this.note(`it asked to be left alone for ${Math.ceil(rest / 1000)} s`)
        return this.#republish(lease, { wait: rest, attempts: before, changes: { messageId } })
      }
      case 'gone':
        this.#failed('it answered 410')
        await this.#options.pause('The endpoint answered 410: it is gone.')
        return this.#settle(lease, 'requeue')
      case 'failed': {
        this.#failed(verdict.why)
        const attempts = before + 1
        if (attempts >= subscription().retry.max_attempts) return this.#giveUp(lease, attempts, verdict.why)
        const wait = backoffAfter(attempts, subscription())
        told.nextAttempt = now() + wait
        const failure = { reason: verdict.why, by: 'push' as const }
        return this.#republish(lease, { wait, attempts, changes: { attempts, messageId, failure } })
      }
    }
  }

  async #exchange(delivery: Delivery, lease: Lease, id: string): Promise<ResponseOutcome> {
    const { window: flow } = this.#options
    const subscription = this.#options.subscription()
    const from = now()
    try {
      const { PUBLIC_URL, ADVERTISE_URL = '' } = this.#options.config
      const base = PUBLIC_URL ? `${PUBLIC_URL.origin}${PUBLIC_URL.path}` : ADVERTISE_URL
      const form = makeRequest(() => deliveryRequest(delivery, lease, subscription, id, base))
      const answer = await this.#connect(subscription).post(form.headers, form.body, subscription.timeout)
      this.#took(from)
      const verdict = classifyResponse(answer.status, answer.retryAfter)
      if (verdict.kind === 'failed') flow.failed()
      return verdict
    } catch (error) {
      if (error instanceof UnsendableMessage) return { kind: 'failed', why: error.message }
      if (!(error instanceof RequestFailed)) throw error
      if (!this.#closed) {
        this.#took(from)
        flow.failed()
      }
      return { kind: 'failed', why: error.message }
    }
  }

  #connect({ url, concurrency }: Subscription): Endpoint {
    this.#endpoint ??= new Endpoint({ url, connections: concurrency, addresses: this.#options.addresses })
    return this.#endpoint
  }

  /** Leaves an accepted message to the endpoint, under an extended lease. */
  #hold(lease: Lease): void {
    const { leases, subscription, onRoom } = this.#options
    if (!leases.isOpen(lease)) return // the endpoint settled it before its response came
    this.accepted++
    lease.onEnd = () => {
      this.accepted--
      onRoom()
    }
    const longest = Math.max(0, lease.lastEnd - now())
    this.#run({ id: lease.id, op: 'extend', lease: Math.min(subscription().lease, longest) })
  }

  /** Runs a command without waiting for it. If it fails, the lease expires by itself. */
  #run(command: LeaseCommand): void {
    const { leases, log, name, vhost } = this.#options
    leases
      .run([command])
      .catch((error) => log.error({ err: error, vhost, subscription: name }, 'defect: a lease was not settled'))
  }

  async #giveUp(lease: Lease, attempts: number, why: string): Promise<void> {
    this.#count('given_up')
    const { giveUp } = this.#options.subscription()
    if (giveUp === 'discard') return this.#settle(lease, 'ack')
    if (giveUp === 'dead_letter') return this.#settle(lease, 'reject')
    await this.#options.pause(`A message could not be delivered in ${attempts} attempts: ${why}.`)
    return this.#settle(lease, 'requeue')
  }

  async #settle(lease: Lease, verdict: 'ack' | 'requeue' | 'reject'): Promise<void> {
    // A deleted subscription gives no message up: its messages return to the queue.
    const as = this.#options.isDeleted() ? 'requeue' : verdict
    await this.#options.leases.run([{ id: lease.id, op: 'settle', action: as }])
  }

  /**
   * Gives a message back so that it comes again after a wait. If RabbitMQ takes no copy of it at the moment, the message stays
   * under its lease, and keeps its place in the window: no other message is tried in its place. A message that RabbitMQ never
   * takes again is given up at once.
   */
  async #republish(lease: Lease, { wait, attempts, changes }: Republish): Promise<void> {
    const { leases, log, name, vhost, isDeleted } = this.#options
    const delay = Math.max(MIN_DELAY_MS, wait)
    for (;;) {
      if (isDeleted()) return this.#settle(lease, 'requeue')
      const [result] = await leases.run([{ id: lease.id, op: 'settle', action: 'later', delay, changes }])
      if (!result || result.ok || this.#closed || !leases.isOpen(lease)) return
      if (!isRetryable(result.code)) return this.#giveUp(lease, attempts, `it cannot be tried again: ${result.detail}`)
      log.warn(
        { vhost, subscription: name, reason: result.detail },
        'message could not be published for a later attempt, trying again',
      )
      await leases.run([{ id: lease.id, op: 'extend', lease: HELD_LEASE_MS }])
      await new Promise((resolve) => setTimeout(resolve, RETRY_REPUBLISH_MS))
    }
  }

  #failed(why: string): void {
    const { stats: told } = this.#options
    told.failed++
    told.lastFailure = now()
    this.note(why)
    this.#count('failed')
  }

  #count(outcome: PushOutcome): void {
    const { metrics, vhost, name, isDeleted } = this.#options
    if (!isDeleted()) metrics.ended(vhost, name, outcome)
  }

  #took(from: number): void {
    const { metrics, vhost, name, isDeleted } = this.#options
    if (!isDeleted()) metrics.took(vhost, name, (now() - from) / 1000)
  }
}

function makeRequest(make: () => DeliveryRequest): DeliveryRequest {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof UnfitForHttp)) throw error
    throw new UnsendableMessage(`The message cannot be delivered raw: ${error.why}. The format json can carry it.`)
  }
}
