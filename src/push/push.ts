// All subscriptions: every instance has a worker for each of them, and they report their status to each other.

import { randomUUID } from 'node:crypto'
import type { Config } from '../config/index.js'
import { type Definition, type Definitions, definitionKey, definitionName } from '../definitions/definitions.js'
import type { Leases } from '../leases/leases.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import type { Receiver } from '../receive/receiver.js'
import { AddressPolicy } from './address-policy.js'
import { Endpoint, type EndpointResponse, RequestFailed } from './endpoint.js'
import { createPushMetrics, type PushMetrics } from './metrics.js'
import { testRequest } from './request.js'
import { StatusReports, type SubscriptionStatus } from './status.js'
import { areAlike, SUBSCRIPTION_KIND, type Subscription } from './subscription.js'
import { Worker } from './worker.js'

const MAX_SUBSCRIPTIONS = 1000
/** How often a change is tried if others change the same subscription at the same time. */
const MAX_PUT_ATTEMPTS = 5
/** Between looks whether the definitions are known. */
const POLL_KNOWN_MS = 20
/** Between attempts to tell the other instances of a pause. */
const RETRY_PAUSE_MS = 1000

export interface PushOptions {
  config: Config
  log: Log
  metrics: Metrics
  definitions: Definitions
  leases: Leases
  receiver: Receiver
}

export interface Changed {
  subscription: Subscription
  created: boolean
}

/** How an endpoint answered a test delivery. */
export type Tested = { duration: number } & ({ answer: EndpointResponse } | { error: string })

/** The subscriptions of all instances, and this instance's workers. */
export class Push {
  readonly addresses: AddressPolicy
  readonly #options: PushOptions
  readonly #metrics: PushMetrics
  readonly #workers = new Map<string, Worker>()
  /** Workers of deleted subscriptions that still wait for responses. */
  readonly #leaving = new Set<Worker>()
  readonly #status: StatusReports
  readonly #unwatch: () => void
  #closed = false

  constructor(options: PushOptions) {
    this.#options = options
    this.addresses = new AddressPolicy(options.config.PUSH_ALLOWED_NETWORKS)
    this.#metrics = createPushMetrics(options.metrics.registry, () =>
      [...this.#workers.values()].map(({ vhost, name, inFlight, window, isPaused }) => {
        return { vhost, subscription: name, inFlight, window, paused: isPaused }
      }),
    )
    this.#status = new StatusReports(options, this.#workers)
    this.#unwatch = this.isOff
      ? () => undefined
      : options.definitions.watch(SUBSCRIPTION_KIND, (key, entry) =>
          this.#onDefinition(key, entry as Definition<Subscription> | undefined),
        )
  }

  /** Whether there are no subscriptions: with AUTH=broker, the gateway's own user would consume for everybody. */
  get isOff(): boolean {
    return this.#options.config.AUTH.includes('broker')
  }

  /**
   * Resolves when the subscriptions are known, which takes a moment after the start.
   * @throws Problem access_refused (with AUTH=broker), broker_unavailable
   */
  async ready(): Promise<void> {
    if (this.isOff) {
      const detail = 'Subscriptions are not for users of RabbitMQ: the gateway would consume as a user of its own.'
      throw new Problem('access_refused', detail)
    }
    const { config, definitions } = this.#options
    const end = now() + config.BROKER_TIMEOUT
    while (!definitions.known) {
      if (now() > end) throw new Problem('broker_unavailable', 'The definitions have not been read from RabbitMQ yet. Try again.')
      await new Promise((resolve) => setTimeout(resolve, POLL_KNOWN_MS))
    }
  }

  /** The subscriptions of a vhost, sorted by name. */
  list(vhost: string): { name: string; subscription: Subscription }[] {
    return this.#options.definitions
      .list<Subscription>(SUBSCRIPTION_KIND)
      .map(({ key, value }) => ({ ...definitionName(key), subscription: value }))
      .filter((one) => one.vhost === vhost)
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** A subscription. @throws Problem subscription_not_found */
  get(vhost: string, name: string): Subscription {
    const entry = this.#entry(vhost, name)
    if (!entry) throw new Problem('subscription_not_found', `There is no subscription '${name}' in vhost '${vhost}'.`)
    return entry.value
  }

  /** Its status, from the reports of all instances. */
  status(vhost: string, name: string): SubscriptionStatus {
    return this.#status.status(definitionKey(vhost, name))
  }

  /**
   * Creates or changes a subscription. Writes nothing if nothing is different.
   * @param change returns the new subscription for the old one; called once for each attempt
   * @throws what `change` throws; Problem overloaded, broker_unavailable, broker_blocked, broker_timeout
   */
  async put(vhost: string, name: string, change: (old: Subscription | undefined) => Subscription): Promise<Changed> {
    for (let tries = 1; tries <= MAX_PUT_ATTEMPTS; tries++) {
      const entry = this.#entry(vhost, name)
      const subscription = change(entry?.value)
      if (entry && areAlike(entry.value, subscription)) return { subscription: entry.value, created: false }
      const { definitions } = this.#options
      if (!entry && definitions.list(SUBSCRIPTION_KIND).length >= MAX_SUBSCRIPTIONS)
        throw new Problem('overloaded', `There are already ${MAX_SUBSCRIPTIONS} subscriptions, which is the limit.`)
      const expected = entry?.revision ?? 0
      if (await definitions.put(SUBSCRIPTION_KIND, definitionKey(vhost, name), subscription, { expected }))
        return { subscription, created: !entry }
    }
    throw new Problem('overloaded', 'Other requests change the same subscription at the same time. Try again.')
  }

  /** Pauses or resumes it everywhere. @throws Problem subscription_not_found, overloaded, broker_unavailable, broker_timeout */
  async setPaused(vhost: string, name: string, paused: boolean): Promise<Subscription> {
    const { subscription } = await this.put(vhost, name, () => {
      const { reason, ...rest } = this.get(vhost, name)
      return { ...rest, paused, ...(paused && reason !== undefined && { reason }) }
    })
    return subscription
  }

  /** Deletes it, if it exists. @throws Problem broker_unavailable, broker_blocked, broker_timeout */
  async delete(vhost: string, name: string): Promise<void> {
    if (this.#entry(vhost, name)) await this.#options.definitions.delete(SUBSCRIPTION_KIND, definitionKey(vhost, name))
  }

  /** Delivers a test message, even to a paused subscription. @throws Problem subscription_not_found */
  async test(vhost: string, name: string): Promise<Tested> {
    const subscription = this.get(vhost, name)
    const endpoint = new Endpoint({ url: subscription.url, connections: 1, addresses: this.addresses })
    const from = now()
    const took = () => Math.round(now() - from)
    try {
      const { headers, body } = testRequest(name, subscription, `test-${randomUUID()}`)
      const answer = await endpoint.post(headers, body, subscription.timeout)
      return { duration: took(), answer }
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error
      return { duration: took(), error: error.message }
    } finally {
      void endpoint.close()
    }
  }

  /** Aborts running deliveries. `Leases.close()` gives their messages back. */
  async close(): Promise<void> {
    this.#closed = true
    this.#unwatch()
    this.#status.close()
    await Promise.all([...this.#workers.values(), ...this.#leaving].map((worker) => worker.close()))
  }

  #entry(vhost: string, name: string): Definition<Subscription> | undefined {
    return this.#options.definitions.get<Subscription>(SUBSCRIPTION_KIND, definitionKey(vhost, name))
  }

  #onDefinition(key: string, entry: Definition<Subscription> | undefined): void {
    const worker = this.#workers.get(key)
    const { vhost, name } = definitionName(key)
    if (entry && worker) {
      worker.update(entry.value, entry.revision)
    } else if (entry) {
      const pause = (reason: string, revision: number) => this.#pause(key, reason, revision)
      const { addresses } = this
      const own = { vhost, name, addresses, metrics: this.#metrics, pause }
      this.#workers.set(key, new Worker(entry.value, entry.revision, { ...this.#options, ...own }))
    } else if (worker) {
      this.#workers.delete(key)
      this.#metrics.forget(vhost, name)
      this.#leaving.add(worker)
      void worker.end().then(() => this.#leaving.delete(worker))
    }
  }

  /** Pauses a subscription that has not changed. Resolves after the first attempt, and tries again later if it fails. */
  async #pause(key: string, reason: string, revision: number): Promise<void> {
    const { definitions, log } = this.#options
    const entry = definitions.get<Subscription>(SUBSCRIPTION_KIND, key)
    if (entry?.revision !== revision || this.#closed) return
    try {
      await definitions.put(SUBSCRIPTION_KIND, key, { ...entry.value, paused: true, reason }, { expected: revision })
    } catch (error) {
      log.warn({ err: error, ...definitionName(key) }, 'pause of a subscription could not be stored, trying again')
      setTimeout(() => void this.#pause(key, reason, revision), RETRY_PAUSE_MS)
    }
  }
}
