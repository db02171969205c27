// Everything that the gateway has open in one vhost: lease connections, a publish connection, an admin connection.

import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { controlQueue, LeaseConnection } from './consume/lease-connection.js'
import { type ReceiveChannel, SharedReceive } from './consume/shared-receive.js'
import { Publisher } from './publish/publisher.js'
import { RpcClient } from './publish/rpc-client.js'
import { Topology } from './topology.js'
import type { ConsumeMessage } from './wire/amqplib.js'
import type { BrokerConnection, Login, Role } from './wire/connection.js'
import { breaksErrorText } from './wire/crash-guards.js'

export interface VhostOptions {
  config: Config
  log: Log
  metrics: Metrics
  vhost: string
  /** Answers a command that another instance sent to the leases held in this vhost. */
  onCommand: (command: Buffer) => Promise<Buffer>
  /** As LeaseConnection has it. */
  instance?: { name: string; answers: boolean } | undefined
  /** Whose connections they are; the gateway's own user's where there is none. */
  login?: Login | undefined
}

export class Vhost {
  readonly name: string
  readonly login: Login | undefined
  readonly publisher: Publisher
  readonly topology: Topology
  readonly sharedReceive: SharedReceive
  /** Calls for clients. */
  readonly rpc: RpcClient
  /** Calls between instances: apart from the clients', whose requests can close a channel. */
  readonly #control: RpcClient
  readonly leaseConnections: LeaseConnection[]
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
          onCommand: (message) => void this.#command(message),
        }),
    )
  }

  /** Receives that run, leases that are held and whoever has to come back keep the connections from being let go. */
  get inUse(): boolean {
    return this.#holders > 0 || this.leaseConnections.some(({ busy }) => busy > 0)
  }

  /** Keeps the connections until the function that it returns is called, once. */
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
   * A channel to receive from that queue, from the least busy connection that is up, and the epoch it belongs to.
   * @throws Problem as LeaseConnection.take()
   */
  async takeReceiveChannel(queue: string): Promise<ReceiveChannel> {
    if (breaksErrorText(this.name, queue)) await this.topology.lookUpQueue(queue)
    let [best] = this.leaseConnections
    for (const other of this.leaseConnections) if (rank(other) < rank(best!)) best = other
    const channel = await best!.takeChannel()
    return { channel, epoch: best!.epoch, brokerVersion: best!.connection.brokerVersion }
  }

  /** Before a publish to an exchange over whose absence the connection would break. @throws Problem exchange_not_found */
  async ensureExchangeExists(name: string): Promise<void> {
    if (breaksErrorText(this.name, name)) await this.topology.lookUpExchange(name)
  }

  /** Whether the epoch is, or was, one of this instance's. */
  knows(epoch: string): boolean {
    return this.leaseConnections.some((connection) => connection.knows(epoch))
  }

  /**
   * Sends a command to the instance that owns an epoch and resolves with its answer.
   * @throws Problem unroutable: the epoch is dead, and its leases with it; anything else: it can't be reached just now
   */
  async sendCommand(epoch: string, command: Buffer, timeout: number): Promise<Buffer> {
    const call = { exchange: '', routingKey: controlQueue(epoch), body: command, timeout }
    return (await this.#control.call(call)).content
  }

  async close(): Promise<void> {
    // Leases first: their channels give back what they hold.
    await Promise.all(this.leaseConnections.map((connection) => connection.close()))
    await Promise.all([this.publisher.close(), this.topology.close()])
  }

  async #command(message: ConsumeMessage): Promise<void> {
    try {
      await this.#control.reply(message, await this.#options.onCommand(message.content))
    } catch (error) {
      this.#options.log.warn({ err: error }, 'a command from another instance was not answered')
    }
  }
}

/** Lower is better: up before connecting before down, then the fewer busy channels. */
function rank({ connection, busy, full }: LeaseConnection): number {
  const up = connection.state === 'up' || connection.state === 'blocked'
  return (up ? 0 : connection.state === 'connecting' ? 1e6 : 2e6) + (full ? 5e5 : 0) + busy
}
