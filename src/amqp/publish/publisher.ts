// Publishes with confirms and `mandatory`, always, and tells what is known: confirmed, unroutable, rejected, or unknown.
// Exchanges have a confirm channel each, since a publish to one that is missing closes its channel and everything in flight there.

import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import type { Metrics } from '../../metrics.js'
import { Problem } from '../../problems.js'
import type { ChannelModel } from '../wire/amqplib.js'
import { BrokerConnection } from '../wire/connection.js'
import { breaksStreams } from '../wire/crash-guards.js'
import type { PublishMessage } from '../wire/message.js'
import { ExchangeConfirmChannel } from './confirm-channel.js'
import { IsolatedPublisher, type PublisherOptions } from './isolated-publisher.js'

const MAX_PUBLISH_CHANNELS = 256
const CANARY_INTERVAL_MS = 1000
const STALLED_AFTER_MS = 3000
/** A channel that is silent for so long may be the only one: another one tells. */
const REPLACE_CHANNEL_AFTER_MS = 6000

export class Publisher {
  readonly connection: BrokerConnection
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #log: Log
  #channels = new Map<string, Promise<ExchangeConfirmChannel>>()
  /** The default exchange's channel, which also carries the canary. */
  #default: ExchangeConfirmChannel | undefined
  #bytes = 0
  #incarnation = 0
  /** Resolves when the last of those who publish many has written. */
  #turn: Promise<unknown> = Promise.resolve()
  /** Makes the one whose turn it is look again. */
  #wake = (): void => undefined
  readonly #isolated: IsolatedPublisher
  readonly #ticks: NodeJS.Timeout
  readonly #hasCanary: boolean
  #isReplacing = false

  constructor(options: PublisherOptions) {
    this.#isolated = new IsolatedPublisher(options)
    this.#config = options.config
    this.#metrics = options.metrics
    this.#log = options.log
    this.connection = new BrokerConnection({
      config: options.config,
      log: options.log,
      role: 'publish',
      vhost: options.vhost,
      login: options.login,
      onUp: (model) => this.#up(model),
      onDown: () => this.#renew(),
    })
    // A user may have no right to publish to nowhere.
    this.#hasCanary = options.login === undefined
    this.#ticks = setInterval(() => this.#tick(), CANARY_INTERVAL_MS)
  }

  /** Whether the broker has not answered for some seconds, though the connection still stands. */
  get stalled(): boolean {
    return (this.#default?.silentFor ?? 0) > STALLED_AFTER_MS
  }

  /** Bytes published that wait for their confirm. */
  get unconfirmedBytes(): number {
    return this.#bytes
  }

  /**
   * Publishes one message and waits for what the broker says of it, PUBLISH_TIMEOUT at most.
   * @returns whether a queue took it (false: the exchange routed it nowhere)
   * @throws Problem broker_unavailable, broker_blocked, overloaded, exchange_not_found, access_refused: not stored;
   *   publish_rejected: the broker nacked it; publish_outcome_unknown: no confirm came.
   * @param options.counted false: the gateway's own, which stands in no metric
   */
  async publish(message: PublishMessage, options?: { counted: boolean }): Promise<boolean> {
    if (breaksStreams(message.properties.headers)) return this.#isolated.publish(message)
    const channel = await this.#channelFor(message)
    return channel.publish(message, options)
  }

  /**
   * As publish(), for those who publish many: waits until the message fits beside what is in flight, in turn with others who
   * wait, and resolves once it is written.
   * @param wanted asked before it is written, every second at least: false gives it up
   * @throws Problem overloaded: it was given up; and as publish(), for what is known before the message is written
   */
  async publishWhenRoom(message: PublishMessage, wanted: () => boolean): Promise<{ confirmed: Promise<boolean> }> {
    if (breaksStreams(message.properties.headers)) {
      // These are in flight one at a time, so that waiting for one is waiting for room.
      const confirmed = this.#isolated.publish(message)
      await confirmed.catch(() => undefined)
      return { confirmed }
    }
    const written = this.#turn.then(async () => {
      while (wanted() && !this.#fits(message) && this.connection.state === 'up') {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      if (!wanted()) throw new Problem('overloaded', 'The client did not wait until there was room. The message was not stored.')
      const channel = await this.#channelFor(message)
      return { confirmed: channel.publish(message) }
    })
    this.#turn = written.catch(() => undefined)
    return written
  }

  /**
   * Writes one message to the connection and waits for nothing.
   * @throws as publish(), for what is known before the message is written
   */
  async publishUnconfirmed(message: PublishMessage): Promise<void> {
    if (breaksStreams(message.properties.headers)) {
      this.#isolated.publish(message).catch(() => undefined)
      return
    }
    const channel = await this.#channelFor(message)
    channel.publish(message).catch(() => undefined)
  }

  /** Forgets the exchange's channel, so that the next publish looks the exchange up again. */
  async closeChannel(exchange: string): Promise<void> {
    const channel = this.#channels.get(exchange)
    this.#channels.delete(exchange)
    await channel?.then(
      (open) => open.close(),
      () => undefined,
    )
  }

  async close(): Promise<void> {
    clearInterval(this.#ticks)
    await Promise.all([this.connection.close(), this.#isolated.close()])
  }

  async #channelFor(message: PublishMessage): Promise<ExchangeConfirmChannel> {
    if (this.connection.state === 'connecting') await this.connection.ready()
    const model = this.#requireUsable()
    if (!this.#fits(message)) {
      throw new Problem('overloaded', 'Too many bytes wait for their confirms. The message was not stored.')
    }
    const open = this.#channels.get(message.exchange)
    if (open) return open
    if (this.#channels.size >= MAX_PUBLISH_CHANNELS) this.#evict()
    return this.#open(model, message.exchange)
  }

  #fits({ body }: PublishMessage): boolean {
    return this.#bytes === 0 || this.#bytes + body.length <= this.#config.PUBLISH_BUFFER
  }

  /** Resolves once messages may be published. @throws Problem broker_unavailable, broker_blocked: none can be just now */
  async ready(): Promise<void> {
    await this.connection.ready()
    this.#requireUsable()
  }

  #requireUsable(): ChannelModel {
    const model = this.connection.model()
    if (this.connection.state === 'blocked') {
      throw new Problem(
        'broker_blocked',
        `RabbitMQ accepts no messages just now (${this.connection.reason}). The message was not stored.`,
      )
    }
    if (this.stalled) {
      throw new Problem('broker_unavailable', 'RabbitMQ has not answered for some seconds. The message was not stored.')
    }
    return model
  }

  #open(model: ChannelModel, exchange: string): Promise<ExchangeConfirmChannel> {
    const incarnation = this.#incarnation
    const opening = ExchangeConfirmChannel.open(model, exchange, {
      config: this.#config,
      metrics: this.#metrics,
      log: this.#log,
      bytes: (change) => {
        // A channel of an earlier incarnation has nothing to give back to this one's count.
        if (this.#incarnation !== incarnation) return
        this.#bytes += change
        if (change < 0) this.#wake()
      },
      closed: () => {
        if (this.#channels.get(exchange) !== opening) return // another one has its place already
        this.#channels.delete(exchange)
        if (exchange === '') this.#default = undefined
      },
    })
    this.#channels.set(exchange, opening)
    opening.then(
      (channel) => {
        if (exchange === '' && this.#incarnation === incarnation) this.#default = channel
      },
      () => {
        if (this.#channels.get(exchange) === opening) this.#channels.delete(exchange)
      },
    )
    return opening
  }

  async #up(model: ChannelModel): Promise<void> {
    this.#renew()
    await this.#open(model, '')
  }

  #renew(): void {
    this.#incarnation++
    this.#channels = new Map()
    this.#default = undefined
    this.#bytes = 0
    this.#wake()
  }

  /** The least recently opened exchange goes; its channel closes once nothing is in flight on it. */
  #evict(): void {
    const oldest = [...this.#channels.keys()].find((exchange) => exchange !== '')
    if (oldest !== undefined) void this.closeChannel(oldest)
  }

  /**
   * Opens the default exchange's channel anew where there is none, or where it has been silent for long: a broken queue can
   * block a channel in RabbitMQ for good, while the broker is well. What was in flight on it is unknown.
   */
  async #replaceDefault(): Promise<void> {
    if (this.#isReplacing) return
    this.#isReplacing = true
    const silent = this.#default
    try {
      await this.#open(this.connection.model(), '')
      if (silent) this.#log.warn({}, 'RabbitMQ did not answer on a channel that publishes: it has another one now')
      void silent?.close()
    } catch (error) {
      this.#log.warn({ err: error }, 'no channel for publishing')
    } finally {
      this.#isReplacing = false
    }
  }

  /**
   * A connection hears of an alarm only when it publishes, and of a frozen broker only after three heartbeats. So one that
   * is idle publishes a byte that goes nowhere every second.
   */
  #tick(): void {
    this.#wake()
    if (this.connection.state !== 'up' || !this.#hasCanary) return
    this.#default?.probe(CANARY_INTERVAL_MS)
    if (this.#default && this.#default.silentFor < REPLACE_CHANNEL_AFTER_MS) return
    void this.#replaceDefault()
  }
}
