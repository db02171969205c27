// A connection that receives and settles, and never publishes: under a memory or disk alarm RabbitMQ stops reading from every
// connection that publishes, and their acks would wait too.

import { randomBytes } from 'node:crypto'
import { FifoMap } from 'toad-cache'
import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import type { ChannelModel, ConsumeMessage } from '../wire/amqplib.js'
import type { Role } from '../wire/channels.js'
import { BrokerConnection, type Login } from '../wire/connection.js'
import { type ReceivedMessage, receivedMessage } from '../wire/message.js'
import { DeliveryChannel } from './delivery-channel.js'

const MAX_IDLE_CHANNELS = 64
/** How many past epochs are remembered. Their leases are known to be gone without asking RabbitMQ. */
export const MAX_PAST_EPOCHS = 1000
export const EPOCH_BYTES = 8

const INSTANCE_QUEUE_ARGUMENTS = { 'x-queue-type': 'classic', 'x-expires': 60_000 }

/** A random name for an epoch or an instance, which nothing else ever had. */
export const newEpoch = (): string => randomBytes(EPOCH_BYTES).toString('base64url')

/** The name of the queue through which other instances reach the leases of an epoch. */
export const controlQueue = (epoch: string): string => `gateway.control.${epoch}`

/** What is told about the receives on a connection. */
export interface ReceiveEvents {
  /** A receive ended in order. isEmpty: RabbitMQ delivered nothing to it. */
  onReceived: (queue: string, isEmpty: boolean) => void
  /** RabbitMQ did not answer a call about the queue in time. */
  onSilent: (queue: string) => void
  /** The connection is lost. @param queues those that were being received from */
  onDown: (error: Error, queues: string[]) => void
}

export interface LeaseConnectionOptions {
  config: Config
  log: Log
  role: Role
  vhost: string
  events: ReceiveEvents
  /** Called with a command from another instance for the leases of this connection. */
  onCommand: (command: ReceivedMessage) => void
  /**
   * The instance's name, if there are leases on connections of RabbitMQ users. Those users may not declare queues, so their
   * connections use the instance's name as epoch, and the one connection with `answers` consumes the instance's control queue.
   */
  instance?: { name: string; answers: boolean } | undefined
  /** The RabbitMQ user that the connection belongs to; the gateway's own user if absent. */
  login?: Login | undefined
}

/**
 * A broker connection with its pool of channels. Each incarnation of it is an epoch, which lease ids name; the epoch's control
 * queue is exclusive to this connection, so that the queue is gone exactly when the leases are.
 */
export class LeaseConnection {
  readonly connection: BrokerConnection
  /** Names this incarnation; a new name at every reconnect, empty while there is no connection. */
  epoch = ''
  readonly #past = new FifoMap<true>(MAX_PAST_EPOCHS)
  readonly #options: LeaseConnectionOptions
  #idle: DeliveryChannel[] = []
  #open = new Set<DeliveryChannel>()
  #opening = 0

  constructor(options: LeaseConnectionOptions) {
    this.#options = options
    this.connection = new BrokerConnection({
      config: options.config,
      log: options.log,
      role: options.role,
      vhost: options.vhost,
      login: options.login,
      onUp: (model) => this.#up(model),
      onDown: (error) => {
        const queues = [...this.#open].flatMap(({ receivesFrom }) => receivesFrom ?? [])
        this.#reset()
        options.events.onDown(error, [...new Set(queues)])
      },
    })
  }

  /** Whether the epoch is or was one of this connection. If so, no other instance knows more about its leases. */
  knows(epoch: string): boolean {
    return this.epoch === epoch || this.#past.get(epoch) === true
  }

  /** This epoch and the remembered earlier ones. */
  get epochs(): string[] {
    return [this.epoch, ...(this.#past.keys() as Iterable<string>)].filter(Boolean)
  }

  /** Channels in use or being opened. The next receive goes to the connection with the fewest. */
  get busy(): number {
    return this.#open.size - this.#idle.length + this.#opening
  }

  /** Open channels, idle ones included. */
  get channels(): number {
    return this.#open.size
  }

  /** Whether all channels are in use that AMQP_CHANNELS, or RabbitMQ, allows. */
  get full(): boolean {
    if (this.busy >= this.#options.config.AMQP_CHANNELS) return true
    return this.#idle.length === 0 && this.connection.state !== 'connecting' && !this.connection.hasRoom
  }

  /**
   * An idle channel or a new one, for one receive. It returns to the pool by itself once it holds nothing.
   * @throws Problem broker_unavailable, broker_timeout, too_many_waiters, too_many_leases
   */
  async takeChannel(): Promise<DeliveryChannel> {
    const model = await this.connection.ready()
    const idle = this.#idle.pop()
    if (idle) return idle
    if (this.full) throw this.#fullProblem()
    this.#opening++
    try {
      const channel = new DeliveryChannel(await this.connection.openChannel(model), {
        log: this.#options.log,
        vhost: this.#options.vhost,
        timeout: this.#options.config.BROKER_TIMEOUT,
        onIdle: (opened) => this.#returnChannel(opened),
        onClosed: (closed) => this.#dropChannel(closed),
        lost: () => this.connection.lost(),
        onReceived: this.#options.events.onReceived,
        onSilent: this.#options.events.onSilent,
      })
      this.#open.add(channel)
      return channel
    } finally {
      this.#opening--
    }
  }

  /** Closes all channels, which gives back what they hold, and then the connection. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((channel) => channel.close()))
    await this.connection.close()
  }

  #fullProblem(): Problem {
    let holding = 0
    for (const channel of this.#open) if (channel.held > 0) holding++
    return holding * 2 > this.#open.size
      ? new Problem('too_many_leases', 'Too many receives hold open leases on this instance. Settle some, or try again later.')
      : new Problem('too_many_waiters', 'Too many receives wait on this instance. Try again later.')
  }

  #returnChannel(channel: DeliveryChannel): void {
    if (!this.#open.has(channel) || this.#idle.includes(channel)) return
    if (this.#idle.length < MAX_IDLE_CHANNELS && this.connection.hasRoom) this.#idle.push(channel)
    else void channel.close()
  }

  #dropChannel(channel: DeliveryChannel): void {
    this.#open.delete(channel)
    const at = this.#idle.indexOf(channel)
    if (at !== -1) this.#idle.splice(at, 1)
  }

  async #up(model: ChannelModel): Promise<void> {
    this.#reset()
    const { log, onCommand, instance, login } = this.#options
    if (login) {
      this.epoch = instance?.name ?? ''
      return
    }
    const epoch = newEpoch()
    const channel = await this.connection.openChannel(model)
    channel.on('error', (error: Error) => log.warn({ err: error }, 'control channel failed'))
    channel.on('handler-error' as 'error', (error: Error) => log.error({ err: error }, 'control callback failed'))
    // Without its control queue the epoch would look dead to other instances while its leases live, so both must go.
    channel.on('close', () => this.connection.destroy('the control channel closed'))
    const answer = (message: ConsumeMessage | null) => {
      if (message) onCommand(receivedMessage(message))
      else this.connection.destroy('the control queue was deleted')
    }
    const name = controlQueue(epoch)
    await channel.assertQueue(name, { exclusive: true, autoDelete: true, durable: false })
    await channel.consume(name, answer, { noAck: true })
    if (instance?.answers) {
      // Not exclusive: the queue of the last incarnation may still exist when this one comes up. And durable, since RabbitMQ
      // 4.3 no longer permits other queues that are not exclusive. It ends with its consumer, or soon after a crash of RabbitMQ.
      const queue = controlQueue(instance.name)
      await channel.assertQueue(queue, { autoDelete: true, durable: true, arguments: INSTANCE_QUEUE_ARGUMENTS })
      await channel.consume(queue, answer, { noAck: true })
    }
    this.epoch = epoch
  }

  #reset(): void {
    if (this.epoch && !this.#options.login) this.#past.set(this.epoch, true)
    this.epoch = ''
    this.#idle = []
    this.#open.clear()
  }
}
