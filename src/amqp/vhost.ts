// Everything that the gateway has open in one vhost: lease connections, a publish connection, an admin connection.

import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { controlQueue, LeaseConnection } from './consume/lease-connection.js'
import { type ReceiveChannel, SharedReceive } from './consume/shared-receive.js'
import { Copies } from './copies.js'
import { Publisher } from './publish/publisher.js'
import { RpcClient } from './publish/rpc-client.js'
import { Topology } from './topology.js'
import type { BrokerConnection, Login, Role } from './wire/connection.js'
import { breaksErrorText } from './wire/crash-guards.js'
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
  readonly leaseConnections: readonly LeaseConnection[]
  /** Milliseconds since 1970. */
  lastUsed = Date.now()
  #holders = 0
  readonly #options: VhostOptions

  constructor(options: VhostOptions) {
    this.#options = options
    const { config, log, vhost, login, instance } = options
    this.name = vhost
    this.login = login
    this.publisher = new Publisher(options)
    this.topology = new Topology(options)
    this.copies = new Copies({ log, vhost, publisher: this.publisher, topology: this.topology })
    this.sharedReceive = new SharedReceive(
      (queue) => this.takeReceiveChannel(queue),
      (queue) => this.topology.queueTypes.recentType(queue),
    )
    this.rpc = new RpcClient(this.publisher.connection, config, log)
    this.#control = new RpcClient(this.publisher.connection, config, log)
    this.leaseConnections = Array.from(
      { length: login ? 1 : config.AMQP_LEASE_CONNECTIONS },
      (_, n) =>
        new LeaseConnection({
          config,
          log,
          vhost,
          login,
          instance: instance && { ...instance, answers: instance.answers && n === 0 },
          onCommand: (command) => void this.#answer(command),
        }),
    )
  }

  /** Whether running receives, held leases or `hold()` keep the connections open. */
  get inUse(): boolean {
    return this.#holders > 0 || this.leaseConnections.some(({ busy }) => busy > 0)
  }

  /** Keeps the connections open until the returned function is called, once. */
  hold(): () => void {
    this.#holders++
    return () => {
      this.#holders--
      this.lastUsed = Date.now()
    }
  }

  /** Every connection with its role. */
  connections(): { role: Role; connection: BrokerConnection }[] {
    return [
      ...this.leaseConnections.map(({ connection }) => ({ role: 'lease' as const, connection })),
      { role: 'publish', connection: this.publisher.connection },
      { role: 'admin', connection: this.topology.connection },
    ]
  }

  /**
   * A channel to receive from the queue, of the least busy connection that is up.
   * @throws Problem broker_unavailable, broker_timeout, too_many_waiters, too_many_leases, queue_not_found
   */
  async takeReceiveChannel(queue: string): Promise<ReceiveChannel> {
    if (breaksErrorText(this.name, queue)) await this.topology.lookUpQueue(queue)
    const best = this.leaseConnections.reduce((one, other) => (rank(other) < rank(one) ? other : one))
    const channel = await best.takeChannel()
    return { channel, epoch: best.epoch, brokerVersion: best.connection.brokerVersion }
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
    return this.leaseConnections.some((connection) => connection.knows(epoch))
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
    await Promise.all(this.leaseConnections.map((connection) => connection.close()))
    await Promise.all([this.publisher.close(), this.topology.close()])
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
