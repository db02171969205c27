// Publishes with confirms and `mandatory`, always, and tells what is known: confirmed, unroutable, rejected, or unknown.
// Exchanges have a confirm channel each, since a publish to one that is missing closes its channel and everything in flight there.

import type { Config } from '../config.js'
import type { Log } from '../log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import type { ChannelModel } from './amqplib.js'
import { ApartPublisher } from './apart-publisher.js'
import { BrokerConnection } from './connection.js'
import { ExchangeChannel } from './exchange-channel.js'
import type { OutgoingMessage } from './message.js'
import { areIndigestible } from './perils.js'

const MAX_EXCHANGES = 256
const CANARY_INTERVAL = 1000
const STALLED_AFTER = 3000

export class Publisher {
  readonly connection: BrokerConnection
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #log: Log
  #channels = new Map<string, Promise<ExchangeChannel>>()
  /** The default exchange's channel, which also carries the canary. */
  #default: ExchangeChannel | undefined
  #bytes = 0
  #incarnation = 0
  #roomWaiters: (() => void)[] = []
  readonly #apart: ApartPublisher
  readonly #ticks: NodeJS.Timeout

  constructor(options: { config: Config; log: Log; metrics: Metrics; vhost: string }) {
    this.#apart = new ApartPublisher(options)
    this.#config = options.config
    this.#metrics = options.metrics
    this.#log = options.log
    this.connection = new BrokerConnection({
      config: options.config,
      log: options.log,
      role: 'publish',
      vhost: options.vhost,
      onUp: (model) => this.#up(model),
      onDown: () => this.#renew(),
    })
    this.#ticks = setInterval(() => this.#tick(), CANARY_INTERVAL)
  }

  /** Whether the broker has not answered for some seconds, though the connection still stands. */
  get stalled(): boolean {
    return (this.#default?.silentFor ?? 0) > STALLED_AFTER
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
   */
  async publish(message: OutgoingMessage): Promise<boolean> {
    if (areIndigestible(message.properties.headers)) return this.#apart.publish(message)
    const channel = await this.#admit(message)
    return channel.publish(message)
  }

  /** Resolves when so many bytes fit beside those in flight, or nothing is in flight; for those who publish many. */
  async room(bytes: number): Promise<void> {
    while (this.#bytes > 0 && this.#bytes + bytes > this.#config.PUBLISH_BUFFER) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve))
    }
  }

  /**
   * Writes one message to the connection and waits for nothing.
   * @throws as publish(), for what is known before the message is written
   */
  async send(message: OutgoingMessage): Promise<void> {
    if (areIndigestible(message.properties.headers)) {
      this.#apart.publish(message).catch(() => undefined)
      return
    }
    const channel = await this.#admit(message)
    channel.publish(message).catch(() => undefined)
  }

  /** Forgets the exchange's channel, so that the next publish looks the exchange up again. */
  async forget(exchange: string): Promise<void> {
    const channel = this.#channels.get(exchange)
    this.#channels.delete(exchange)
    await channel?.then(
      (open) => open.close(),
      () => undefined,
    )
  }

  async close(): Promise<void> {
    clearInterval(this.#ticks)
    await Promise.all([this.connection.close(), this.#apart.close()])
  }

  async #admit(message: OutgoingMessage): Promise<ExchangeChannel> {
    if (this.connection.state === 'connecting') await this.connection.ready()
    const model = this.check()
    if (this.#bytes + message.body.length > this.#config.PUBLISH_BUFFER && this.#bytes > 0) {
      throw new Problem('overloaded', 'Too many bytes wait for their confirms. The message was not stored.')
    }
    const open = this.#channels.get(message.exchange)
    if (open) return open
    if (this.#channels.size >= MAX_EXCHANGES) this.#evict()
    return this.#open(model, message.exchange)
  }

  /** @throws Problem broker_unavailable, broker_blocked: nothing can be published just now */
  check(): ChannelModel {
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

  #open(model: ChannelModel, exchange: string): Promise<ExchangeChannel> {
    const incarnation = this.#incarnation
    const opening = ExchangeChannel.open(model, exchange, {
      config: this.#config,
      metrics: this.#metrics,
      log: this.#log,
      bytes: (change) => {
        // A channel of an earlier incarnation has nothing to give back to this one's count.
        if (this.#incarnation !== incarnation) return
        this.#bytes += change
        if (change < 0) this.#wakeWaiters()
      },
      closed: () => {
        if (this.#channels.get(exchange) === opening) this.#channels.delete(exchange)
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
    this.#wakeWaiters()
  }

  #wakeWaiters(): void {
    for (const wake of this.#roomWaiters.splice(0)) wake()
  }

  /** The least recently opened exchange goes; its channel closes once nothing is in flight on it. */
  #evict(): void {
    const oldest = [...this.#channels.keys()].find((exchange) => exchange !== '')
    if (oldest !== undefined) void this.forget(oldest)
  }

  /**
   * A connection hears of an alarm only when it publishes, and of a frozen broker only after three heartbeats. So one that
   * is idle publishes a byte that goes nowhere every second.
   */
  #tick(): void {
    if (this.connection.state !== 'up') return
    if (this.#default) this.#default.probe(CANARY_INTERVAL)
    else this.#open(this.connection.model(), '').catch((error) => this.#log.warn({ err: error }, 'no channel for publishing'))
  }
}
