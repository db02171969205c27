// Everything that the gateway has open in one vhost: lease connections, a publish connection, an admin connection.

import type { Config } from '../config/index.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import type { DeliveryChannel } from './consume/delivery-channel.js'
import { controlQueue, LeaseConnection, type ReceiveEvents } from './consume/lease-connection.js'
import { Quarantine } from './consume/quarantine.js'
import type { QueueType } from './consume/queue-types.js'
import { type ReceiveChannel, SharedReceive } from './consume/shared-receive.js'
import { Copies } from './copies.js'
import { Publisher } from './publish/publisher.js'
import { RpcClient } from './publish/rpc-client.js'
import { Topology } from './topology.js'
import type { Role } from './wire/channels.js'
import type { BrokerConnection, Login } from './wire/connection.js'
import { breaksErrorText } from './wire/crash-guards.js'
import { within } from './wire/deadline.js'
import type { ReceivedMessage } from './wire/message.js'

/** Answers a command that another instance sent to leases held here. */
export type CommandHandler = (command: Buffer) => Promise<Buffer>

export interface VhostOptions {
  config: Config
  log: Log
  metrics: Metrics
  vhost: string
  onCommand: CommandHandler
  /** The instance's name, and whether this vhost's connections answer commands to it; undefined without AUTH=broker. */
  instance?: { name: string; answers: boolean } | undefined
  /** The RabbitMQ user whose connections they are; the gateway's own user if absent. */
  login?: Login | undefined
}

/** How soon RabbitMQ answers if it is well, in milliseconds. */
const ANSWER_MS = 1000

/** The connections of one vhost, for one user. */
export class Vhost {
  readonly name: string
  readonly login: Login | undefined
  readonly publisher: Publisher
  readonly topology: Topology
  /** Publishes messages again. */
  readonly copies: Copies
  readonly sharedReceive: SharedReceive
  /** Calls for clients. */
  readonly rpc: RpcClient
  /** Calls between instances: apart from the clients' calls, which can close a channel. */
  readonly #control: RpcClient
  /** The connections that all queues share. */
  readonly leaseConnections: readonly LeaseConnection[]
  /** The queues that have connections of their own. */
  readonly quarantine: Quarantine
  /** On the monotonic clock. */
  lastUsed = now()
  #holders = 0
  readonly #options: VhostOptions

  constructor(options: VhostOptions) {
    this.#options = options
    const { config, log, vhost, login } = options
    this.name = vhost
    this.login = login
    this.publisher = new Publisher(options)
    this.topology = new Topology({ ...options, onEmptied: (queue) => this.quarantine.emptied(queue) })
    this.copies = new Copies({ log, vhost, publisher: this.publisher, topology: this.topology })
    this.sharedReceive = new SharedReceive(
      (queue) => this.takeReceiveChannel(queue),
      (queue) => this.topology.queueTypes.recentType(queue),
      (queue) => this.quarantine.has(queue),
    )
    this.rpc = new RpcClient(this.publisher.connection, config, log)
    this.#control = new RpcClient(this.publisher.connection, config, log)
    this.quarantine = new Quarantine({
      log,
      vhost,
      open: (events) => this.#connect('quarantine', events),
      brokerAnswers: () => this.#brokerAnswers(),
    })
    this.leaseConnections = Array.from({ length: login ? 1 : config.AMQP_LEASE_CONNECTIONS }, (_, n) =>
      this.#connect('lease', this.quarantine.sharedEvents, n === 0),
    )
  }

  /** Whether running receives, held leases or `hold()` keep the connections open. */
  get inUse(): boolean {
    return this.#holders > 0 || this.receivingConnections.some(({ busy }) => busy > 0)
  }

  /** Whether messages wait for their confirms, or calls for their answers. */
  get isPublishing(): boolean {
    return this.publisher.unconfirmedBytes > 0 || this.rpc.pending > 0
  }

  /** Keeps the connections open until the returned function is called, once. */
  hold(): () => void {
    this.#holders++
    return () => {
      this.#holders--
      this.lastUsed = now()
    }
  }

  /** The connections on which messages are received and settled, own ones of queues included. */
  get receivingConnections(): LeaseConnection[] {
    return [...this.leaseConnections, ...this.quarantine.connections]
  }

  /** Every epoch that is, or was, one of this vhost's connections. */
  get epochs(): string[] {
    return [...this.receivingConnections.flatMap(({ epochs }) => epochs), ...this.quarantine.pastEpochs]
  }

  /** Every connection with its role. */
  connections(): { role: Role; connection: BrokerConnection }[] {
    return [
      ...this.leaseConnections.map(({ connection }) => ({ role: 'lease' as const, connection })),
      ...this.quarantine.connections.map(({ connection }) => ({ role: 'quarantine' as const, connection })),
      { role: 'publish', connection: this.publisher.connection },
      { role: 'admin', connection: this.topology.connection },
    ]
  }

  /**
   * A channel to receive from the queue, of the least busy connection that is up, or of one that is the queue's own.
   * @throws Problem broker_unavailable, broker_timeout, too_many_waiters, too_many_leases, queue_not_found, queue_quarantined
   */
  async takeReceiveChannel(queue: string): Promise<ReceiveChannel> {
    this.quarantine.admit(queue)
    if (breaksErrorText(this.name, queue)) await this.topology.lookUpQueue(queue)
    const { connection, channel } = (await this.quarantine.takeChannel(queue)) ?? (await this.#takeShared())
    return { channel, epoch: connection.epoch, brokerVersion: connection.connection.brokerVersion }
  }

  /**
   * The type of a queue that is to be received from.
   * @throws Problem queue_quarantined, queue_not_found, access_refused, broker_unavailable, broker_timeout
   */
  async typeToReceive(queue: string): Promise<QueueType> {
    this.quarantine.admit(queue)
    try {
      return await this.topology.queueTypes.currentType(queue)
    } catch (error) {
      if (error instanceof Problem && error.code === 'broker_timeout') void this.quarantine.hung(queue)
      throw error
    }
  }

  /**
   * Looks an exchange up if a publish to a missing one of that name would end the connection.
   * @throws Problem exchange_not_found
   */
  async ensureExchangeExists(name: string): Promise<void> {
    if (breaksErrorText(this.name, name)) await this.topology.lookUpExchange(name)
  }

  /** Whether the epoch is, or was, one of this vhost's connections here. */
  knows(epoch: string): boolean {
    return this.leaseConnections.some((connection) => connection.knows(epoch)) || this.quarantine.knows(epoch)
  }

  /**
   * Sends a command to the instance that holds the leases of an epoch, and resolves with its answer.
   * @param timeout milliseconds to wait for the answer
   * @throws Problem unroutable: the epoch is over, and its leases are gone; any other: the instance cannot be reached
   */
  async sendCommand(epoch: string, command: Buffer, timeout: number): Promise<Buffer> {
    const call = { exchange: '', routingKey: controlQueue(epoch), body: command, timeout }
    return (await this.#control.call(call)).body
  }

  /** Gives back what the leases hold, and closes the connections. */
  async close(): Promise<void> {
    await Promise.all([...this.leaseConnections.map((connection) => connection.close()), this.quarantine.close()])
    await Promise.all([this.publisher.close(), this.topology.close()])
  }

  async #takeShared(): Promise<{ connection: LeaseConnection; channel: DeliveryChannel }> {
    const connection = this.leaseConnections.reduce((one, other) => (rank(other) < rank(one) ? other : one))
    return { connection, channel: await connection.takeChannel() }
  }

  #connect(role: 'lease' | 'quarantine', events: ReceiveEvents, isFirst = false): LeaseConnection {
    const { config, log, vhost, login, instance } = this.#options
    return new LeaseConnection({
      config,
      log,
      role,
      vhost,
      events,
      login,
      instance: instance && { ...instance, answers: instance.answers && isFirst },
      onCommand: (command) => void this.#answer(command),
    })
  }

  /** Whether RabbitMQ opens a channel soon. */
  async #brokerAnswers(): Promise<boolean> {
    try {
      const model = await this.topology.connection.ready()
      const channel = await within(ANSWER_MS, 'channel.open', model.createChannel())
      channel.on('error', () => undefined)
      void channel.close().catch(() => undefined)
      return true
    } catch {
      return false
    }
  }

  async #answer(command: ReceivedMessage): Promise<void> {
    try {
      await this.#control.reply(command, await this.#options.onCommand(command.body))
    } catch (error) {
      this.#options.log.warn({ err: error }, 'command of another instance could not be answered')
    }
  }
}

/** Lower is better: up before connecting before down, then the fewer busy channels. */
function rank({ connection, busy, full }: LeaseConnection): number {
  const up = connection.state === 'up' || connection.state === 'blocked'
  return (up ? 0 : connection.state === 'connecting' ? 1e6 : 2e6) + (full ? 5e5 : 0) + busy
}
