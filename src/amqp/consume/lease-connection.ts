// A connection that receives and settles, and never publishes: under a memory or disk alarm RabbitMQ stops reading from every
// connection that publishes, and with it their acks. One incarnation of it is an epoch, which lease ids name; the epoch's
// control queue lives on this same connection, so that it is gone exactly when the epoch's leases are.

import { randomBytes } from 'node:crypto'
import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import type { ChannelModel, ConsumeMessage } from '../wire/amqplib.js'
import { BrokerConnection, type Login } from '../wire/connection.js'
import { within } from '../wire/deadline.js'
import { DeliveryChannel } from './delivery-channel.js'

const MAX_IDLE_CHANNELS = 64
/** So many are known to be over without asking RabbitMQ. */
export const MAX_PAST_EPOCHS = 1000
export const EPOCH_BYTES = 8

/** A name that nothing else ever had. */
export const newEpoch = (): string => randomBytes(EPOCH_BYTES).toString('base64url')

/** The name of the queue through which other instances reach the leases of an epoch. */
export const controlQueue = (epoch: string): string => `gateway.control.${epoch}`

export interface LeaseConnectionOptions {
  config: Config
  log: Log
  vhost: string
  /** A command from another instance for the leases of this connection. */
  onCommand: (message: ConsumeMessage) => void
  /**
   * Names the instance. Its control queue is for leases on connections of other users, who may declare none: a connection
   * with a login has the instance's name for its epoch, and `answers` the gateway's own connection that has the queue.
   */
  instance?: { name: string; answers: boolean } | undefined
  login?: Login | undefined
}

export class LeaseConnection {
  readonly connection: BrokerConnection
  /** Names this incarnation; a new one at every reconnect. */
  epoch = ''
  /** Earlier incarnations, whose leases are gone. */
  readonly #past = new Set<string>()
  readonly #options: LeaseConnectionOptions
  #idle: DeliveryChannel[] = []
  #open = new Set<DeliveryChannel>()
  #opening = 0

  constructor(options: LeaseConnectionOptions) {
    this.#options = options
    this.connection = new BrokerConnection({
      config: options.config,
      log: options.log,
      role: 'lease',
      vhost: options.vhost,
      login: options.login,
      onUp: (model) => this.#up(model),
      onDown: () => this.#reset(),
    })
  }

  /** Whether the epoch is or was one of this connection's: then nobody else knows more of its leases. */
  knows(epoch: string): boolean {
    return this.epoch === epoch || this.#past.has(epoch)
  }

  /** This incarnation and earlier ones. */
  get epochs(): string[] {
    return [this.epoch, ...this.#past].filter(Boolean)
  }

  /** Channels in use or being opened: what decides where the next receive goes. */
  get busy(): number {
    return this.#open.size - this.#idle.length + this.#opening
  }

  get channels(): number {
    return this.#open.size
  }

  get full(): boolean {
    return this.busy >= this.#options.config.AMQP_CHANNELS
  }

  /**
   * A channel for one receive: one that rests, or a new one. It comes back by itself when it holds nothing any more.
   * @throws Problem broker_unavailable, broker_timeout, too_many_waiters, too_many_leases
   */
  async takeChannel(): Promise<DeliveryChannel> {
    const model = await this.connection.ready()
    const resting = this.#idle.pop()
    if (resting) return resting
    if (this.full) throw this.#refusal()
    this.#opening++
    try {
      const channel = await DeliveryChannel.open(model, {
        log: this.#options.log,
        timeout: this.#options.config.BROKER_TIMEOUT,
        onIdle: (idle) => this.#returnChannel(idle),
        onClosed: (closed) => this.#dropChannel(closed),
      })
      this.#open.add(channel)
      return channel
    } catch (error) {
      if (error instanceof Problem) throw error
      throw new Problem('broker_unavailable', 'The connection to RabbitMQ was lost.', { cause: error })
    } finally {
      this.#opening--
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open].map((channel) => channel.close()))
    await this.connection.close()
  }

  #refusal(): Problem {
    let holding = 0
    for (const channel of this.#open) if (channel.held > 0) holding++
    return holding * 2 > this.#open.size
      ? new Problem('too_many_leases', 'Too many receives hold open leases on this instance.')
      : new Problem('too_many_waiters', 'Too many receives wait on this instance.')
  }

  #returnChannel(channel: DeliveryChannel): void {
    if (!this.#open.has(channel) || this.#idle.includes(channel)) return
    if (this.#idle.length < MAX_IDLE_CHANNELS) this.#idle.push(channel)
    else void channel.close()
  }

  #dropChannel(channel: DeliveryChannel): void {
    this.#open.delete(channel)
    const at = this.#idle.indexOf(channel)
    if (at !== -1) this.#idle.splice(at, 1)
  }

  async #up(model: ChannelModel): Promise<void> {
    this.#reset()
    const { log, config, onCommand, instance, login } = this.#options
    if (login) {
      this.epoch = instance!.name
      return
    }
    const epoch = newEpoch()
    const channel = await within(config.BROKER_TIMEOUT, 'channel.open', model.createChannel())
    channel.on('error', (error: Error) => log.warn({ err: error }, 'the control channel failed'))
    channel.on('handler-error' as 'error', (error: Error) => log.error({ err: error }, 'a control callback failed'))
    // Without its control queue the epoch would look dead from outside while its leases live: then rather let both go.
    channel.on('close', () => this.connection.destroy('the control channel closed'))
    const answer = (message: ConsumeMessage | null) => {
      if (message) onCommand(message)
      else this.connection.destroy('the control queue was deleted')
    }
    const name = controlQueue(epoch)
    await channel.assertQueue(name, { exclusive: true, autoDelete: true, durable: false })
    await channel.consume(name, answer, { noAck: true })
    if (instance?.answers) {
      // Not exclusive: the last incarnation's may still be there when this one comes.
      const queue = controlQueue(instance.name)
      await channel.assertQueue(queue, { autoDelete: true, durable: false })
      await channel.consume(queue, answer, { noAck: true })
    }
    this.epoch = epoch
  }

  #reset(): void {
    if (this.epoch && !this.#options.login) this.#past.add(this.epoch)
    if (this.#past.size > MAX_PAST_EPOCHS) this.#past.delete(this.#past.values().next().value!)
    this.epoch = ''
    this.#idle = []
    this.#open.clear()
  }
}
