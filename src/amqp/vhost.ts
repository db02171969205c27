// Everything that the gateway has open in one vhost: lease connections, a publish connection, an admin connection.

import type { Config } from '../config.js'
import type { Log } from '../log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import type { ConsumeMessage } from './amqplib.js'
import { BrokerConnection, type Role } from './connection.js'
import type { DeliveryChannel } from './delivery-channel.js'
import { controlQueue, LeaseConnection } from './lease-connection.js'
import { areUnspeakable } from './perils.js'
import { Publisher } from './publisher.js'
import { RpcClient } from './rpc.js'
import { Topology } from './topology.js'

export interface VhostOptions {
  config: Config
  log: Log
  metrics: Metrics
  vhost: string
  /** Answers a command that another instance sent to the leases held in this vhost. */
  onCommand: (command: Buffer) => Promise<Buffer>
}

export class Vhost {
  readonly name: string
  readonly publisher: Publisher
  readonly topology: Topology
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
    const { config, log, vhost } = options
    this.name = vhost
    this.publisher = new Publisher(options)
    this.topology = new Topology(options)
    this.rpc = new RpcClient(this.publisher.connection, config, log)
    this.#control = new RpcClient(this.publisher.connection, config, log)
    this.leaseConnections = Array.from(
      { length: config.AMQP_LEASE_CONNECTIONS },
      () => new LeaseConnection({ config, log, vhost, onCommand: (message) => void this.#command(message) }),
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
  async takeChannel(queue: string): Promise<{ channel: DeliveryChannel; epoch: string; brokerVersion: string }> {
    if (areUnspeakable(this.name, queue)) await this.topology.queue(queue)
    let [best] = this.leaseConnections
    for (const other of this.leaseConnections) if (rank(other) < rank(best!)) best = other
    const channel = await best!.take()
    return { channel, epoch: best!.epoch, brokerVersion: best!.connection.brokerVersion }
  }

  /** Before a publish to an exchange over whose absence the connection would break. @throws Problem exchange_not_found */
  async vetExchange(name: string): Promise<void> {
    if (areUnspeakable(this.name, name)) await this.topology.exchange(name)
  }

  /** Whether the epoch is, or was, one of this instance's. */
  knows(epoch: string): boolean {
    return this.leaseConnections.some((connection) => connection.knows(epoch))
  }

  /**
   * Sends a command to the instance that owns an epoch and resolves with its answer.
   * @throws Problem unroutable: the epoch is dead, and its leases with it; anything else: it can't be reached just now
   */
  async command(epoch: string, command: Buffer, timeout: number): Promise<Buffer> {
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

/** The vhosts in use: the connection's own for good, every other from its first use until nobody uses it. */
export class Vhosts {
  readonly #options: Omit<VhostOptions, 'vhost'>
  readonly #open = new Map<string, Vhost>()
  readonly #probes = new Map<string, Promise<void>>()
  readonly #ticks: NodeJS.Timeout

  constructor(options: Omit<VhostOptions, 'vhost'>) {
    this.#options = options
    this.#add(this.defaultName)
    this.#ticks = setInterval(() => this.#letGo(), 1000)
  }

  get defaultName(): string {
    return this.#options.config.AMQP_URL[0]!.vhost
  }

  /** The user whose connection it is: the only `user_id` that RabbitMQ lets a message carry. */
  get username(): string {
    return this.#options.config.AMQP_URL[0]!.username
  }

  get default(): Vhost {
    return this.#open.get(this.defaultName)!
  }

  /**
   * The vhost of that name, or the default one. One that is not in use yet is tried with a connection of its own first, so
   * that a misspelt name costs one refused connection and no place.
   * @throws Problem vhost_not_found, broker_unavailable, overloaded: too many vhosts in use
   */
  async get(name = this.defaultName): Promise<Vhost> {
    if (!this.#open.has(name)) await this.#probe(name)
    const vhost = this.#open.get(name) ?? this.#add(name)
    vhost.lastUsed = Date.now()
    return vhost
  }

  all(): Vhost[] {
    return [...this.#open.values()]
  }

  async close(): Promise<void> {
    clearInterval(this.#ticks)
    await Promise.all(this.all().map((vhost) => vhost.close()))
  }

  #add(name: string): Vhost {
    const vhost = new Vhost({ ...this.#options, vhost: name })
    this.#open.set(name, vhost)
    return vhost
  }

  #probe(name: string): Promise<void> {
    const running = this.#probes.get(name)
    if (running) return running
    if (this.#open.size + this.#probes.size >= this.#options.config.MAX_VHOSTS) {
      throw new Problem('overloaded', 'Too many vhosts are in use at the same time.')
    }
    const probe = this.#tryOut(name).finally(() => this.#probes.delete(name))
    this.#probes.set(name, probe)
    return probe
  }

  async #tryOut(name: string): Promise<void> {
    const { config, log } = this.#options
    const connection = new BrokerConnection({ config, log, role: 'admin', vhost: name })
    try {
      await connection.ready()
    } finally {
      void connection.close()
    }
  }

  /** Lets vhosts go that nobody uses, and those that the broker refuses because they were deleted. */
  #letGo(): void {
    for (const [name, vhost] of this.#open) {
      if (name === this.defaultName || vhost.inUse) continue
      const refused = vhost.publisher.connection.reason === 'vhost refused'
      if (refused || Date.now() - vhost.lastUsed > this.#options.config.VHOST_IDLE) {
        this.#open.delete(name)
        void vhost.close()
      }
    }
  }
}
