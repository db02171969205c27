// Publishes with confirms and `mandatory`, always, and reports what is known: confirmed, unroutable, rejected or unknown.

import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import { Pause } from '../../lib/pause.js'
import type { Metrics } from '../../metrics.js'
import { Problem } from '../../problems.js'
import type { ChannelModel } from '../wire/amqplib.js'
import { BrokerConnection } from '../wire/connection.js'
import { breaksStreams } from '../wire/crash-guards.js'
import type { OutgoingMessage } from '../wire/message.js'
import { ExchangeConfirmChannel } from './confirm-channel.js'
import { ExchangeChannels } from './exchange-channels.js'
import { IsolatedPublisher, type PublisherOptions } from './isolated-publisher.js'

const MAX_PUBLISH_CHANNELS = 256
const CANARY_INTERVAL_MS = 1000
const STALLED_AFTER_MS = 3000
/** After this silence the default exchange's channel is replaced: perhaps only the channel is stuck. */
const REPLACE_CHANNEL_AFTER_MS = 6000

/** The publishing connection of a vhost: a confirm channel for each exchange, and a bound on the bytes in flight. */
export class Publisher {
  readonly connection: BrokerConnection
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #log: Log
  readonly #channels = new ExchangeChannels<ExchangeConfirmChannel>({
    hasRoom: (open) => open < this.#maxChannels && this.connection.hasRoom,
    mayClose: () => true,
    close: (channel) => channel.close(),
  })
  /** The default exchange's channel, which also carries the canary. */
  #default: ExchangeConfirmChannel | undefined
  #bytes = 0
  #incarnation = 0
  /** Resolves when the last caller of `publishWhenRoom()` has written its message. */
  #turn: Promise<unknown> = Promise.resolve()
  /** The wait for room of the caller whose turn it is. */
  readonly #room = new Pause()
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
    // A RabbitMQ user may lack the right to publish the canary.
    this.#hasCanary = options.login === undefined
    this.#ticks = setInterval(() => this.#tick(), CANARY_INTERVAL_MS)
  }

  /** Whether RabbitMQ has not answered for some seconds, although the connection still stands. */
  get stalled(): boolean {
    return (this.#default?.silentFor ?? 0) > STALLED_AFTER_MS
  }

  /** Bytes of bodies that were published and wait for their confirm. */
  get unconfirmedBytes(): number {
    return this.#bytes
  }

  /**
   * Publishes one message and waits for its confirm, at most PUBLISH_TIMEOUT.
   * @param options.counted false for messages of the gateway itself, which are in no metric
   * @returns whether a queue took it; false if the exchange routed it to none
   * @throws Problem broker_unavailable, broker_blocked, overloaded, exchange_not_found, access_refused, invalid_message,
   *   message_too_large: not stored; publish_rejected, publish_refused: RabbitMQ nacked it;
   *   publish_outcome_unknown: no confirm came
   */
  async publish(message: OutgoingMessage, options?: { counted: boolean }): Promise<boolean> {
    if (breaksStreams(message.properties.headers)) return this.#isolated.publish(message)
    return this.#withChannel(message, (channel) => channel.publish(message, options))
  }

  /**
   * For callers that publish many messages: waits until the message fits beside the bytes in flight, in turn with the other
   * callers, and resolves once it is written. The confirm is in an object, since an async function would wait for it.
   * @param wanted asked before the message is written, at least every second; false gives it up
   * @returns the promise of `publish()`: whether a queue took it, or its problem
   * @throws Problem overloaded: it was given up; broker_unavailable, broker_blocked, exchange_not_found, access_refused
   */
  async publishWhenRoom(message: OutgoingMessage, wanted: () => boolean): Promise<{ confirmed: Promise<boolean> }> {
    if (breaksStreams(message.properties.headers)) {
      // These are in flight one at a time, so to wait for one is to wait for room.
      const confirmed = this.#isolated.publish(message)
      await confirmed.catch(() => undefined)
      return { confirmed }
    }
    const written = this.#turn.then(async () => {
      while (wanted() && !this.#fits(message) && this.connection.state === 'up') await this.#room.take()
      if (!wanted()) throw new Problem('overloaded', 'The client did not wait until there was room. The message was not stored.')
      return this.#withChannel(message, (channel) => ({ confirmed: channel.publish(message) }))
    })
    this.#turn = written.catch(() => undefined)
    return written
  }

  /**
   * Writes one message to the connection and does not wait for its confirm.
   * @throws Problem broker_unavailable, broker_blocked, overloaded, exchange_not_found, access_refused: not stored
   */
  async publishUnconfirmed(message: OutgoingMessage): Promise<void> {
    if (breaksStreams(message.properties.headers)) {
      this.#isolated.publish(message).catch(() => undefined)
      return
    }
    await this.#withChannel(message, (channel) => void channel.publish(message).catch(() => undefined))
  }

  /** Closes the exchange's channel, so that the next publish checks again whether the exchange exists. */
  async closeChannel(exchange: string): Promise<void> {
    await this.#channels.remove(exchange)?.then(
      (channel) => channel.close(),
      () => undefined,
    )
  }

  /** Closes the connection. Messages in flight become publish_outcome_unknown. */
  async close(): Promise<void> {
    clearInterval(this.#ticks)
    await Promise.all([this.connection.close(), this.#isolated.close()])
  }

  /** Resolves if messages can be published. @throws Problem broker_unavailable, broker_blocked */
  async ready(): Promise<void> {
    await this.connection.ready()
    this.#requireUsable()
  }

  /** A quarter of what RabbitMQ allows is for calls. */
  get #maxChannels(): number {
    const { maxChannels } = this.connection
    return Math.max(2, Math.min(MAX_PUBLISH_CHANNELS, maxChannels - Math.max(2, Math.ceil(maxChannels / 4))))
  }

  /** Runs `use` with the channel of the message's exchange, in the turn in which the channel is known not to be closing. */
  async #withChannel<T>(message: OutgoingMessage, use: (channel: ExchangeConfirmChannel) => T): Promise<Awaited<T>> {
    if (this.connection.state === 'connecting') await this.connection.ready()
    const model = this.#requireUsable()
    if (!this.#fits(message)) {
      throw new Problem('overloaded', 'Too many bytes wait for their confirms. The message was not stored.')
    }
    for (;;) {
      const channel = await this.#channels.get(message.exchange, (closed) => this.#open(model, message.exchange, closed))
      if (!channel.isClosing) return await use(channel) // otherwise it has made room for another one meanwhile
    }
  }

  #fits({ body }: OutgoingMessage): boolean {
    return this.#bytes === 0 || this.#bytes + body.length <= this.#config.PUBLISH_BUFFER
  }

  #requireUsable(): ChannelModel {
    const model = this.connection.model()
    if (this.connection.state === 'blocked') {
      throw new Problem(
        'broker_blocked',
        `RabbitMQ currently accepts no messages (${this.connection.reason}). The message was not stored.`,
      )
    }
    if (this.stalled) {
      throw new Problem('broker_unavailable', 'RabbitMQ has not answered for some seconds. The message was not stored.')
    }
    return model
  }

  async #open(model: ChannelModel, exchange: string, closed: () => void): Promise<ExchangeConfirmChannel> {
    const incarnation = this.#incarnation
    let channel: ExchangeConfirmChannel | undefined
    channel = await ExchangeConfirmChannel.open(this.connection, model, exchange, {
      config: this.#config,
      metrics: this.#metrics,
      log: this.#log,
      bytes: (change) => {
        // The count of an earlier incarnation started at zero again.
        if (this.#incarnation !== incarnation) return
        this.#bytes += change
        if (change < 0) this.#room.end()
      },
      closed: () => {
        closed()
        if (channel && this.#default === channel) this.#default = undefined
      },
    })
    if (exchange === '' && this.#incarnation === incarnation) this.#default = channel
    return channel
  }

  async #up(model: ChannelModel): Promise<void> {
    this.#renew()
    await this.#channels.replace('', (closed) => this.#open(model, '', closed))
  }

  #renew(): void {
    this.#incarnation++
    this.#channels.reset()
    this.#default = undefined
    this.#bytes = 0
    this.#room.end()
  }

  /**
   * Opens another channel for the default exchange if there is none, or if it has been silent for long: a broken queue can block
   * a channel inside RabbitMQ permanently, while the broker is well. Messages in flight on the old channel become unknown.
   */
  async #replaceDefault(): Promise<void> {
    if (this.#isReplacing) return
    this.#isReplacing = true
    const silent = this.#default
    try {
      const model = this.connection.model()
      await this.#channels.replace('', (closed) => this.#open(model, '', closed))
      if (silent) this.#log.warn({}, 'publish channel replaced: RabbitMQ did not answer on the old one')
      void silent?.close()
    } catch (error) {
      this.#log.warn({ err: error }, 'publish channel could not be opened')
    } finally {
      this.#isReplacing = false
    }
  }

  /**
   * RabbitMQ tells a connection about an alarm only when the connection publishes, and a frozen broker shows only after missed
   * heartbeats. So an idle connection publishes a byte that goes nowhere every second.
   */
  #tick(): void {
    this.#room.end()
    if (this.connection.state !== 'up' || !this.#hasCanary) return
    this.#default?.probe(CANARY_INTERVAL_MS)
    if (this.#default && this.#default.silentFor < REPLACE_CHANNEL_AFTER_MS) return
    void this.#replaceDefault()
  }
}
