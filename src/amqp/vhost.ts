// Everything that the gateway has open in one vhost: lease connections, a publish connection, an admin connection.

import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import { controlQueue, LeaseConnection, MAX_PAST_EPOCHS, newEpoch } from './consume/lease-connection.js'
import { type ReceiveChannel, SharedReceive } from './consume/shared-receive.js'
import { Publisher } from './publish/publisher.js'
import { RpcClient } from './publish/rpc-client.js'
import { Topology } from './topology.js'
import type { ConsumeMessage } from './wire/amqplib.js'
import { BrokerConnection, type Login, type Role } from './wire/connection.js'
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

/** The vhosts in use, each user's apart: the connection's own for good, every other from its first use until nobody uses it. */
export class Vhosts {
  /** Names this process to other instances, for the leases of logins. */
  readonly instance = newEpoch()
  readonly #options: Omit<VhostOptions, 'vhost' | 'login' | 'instance'>
  readonly #open = new Map<string, Vhost>()
  readonly #probes = new Map<string, Promise<void>>()
  readonly #ticks: NodeJS.Timeout
  /** Of vhosts that were let go. */
  readonly #pastEpochs = new Set<string>()

  constructor(options: Omit<VhostOptions, 'vhost' | 'login' | 'instance'>) {
    this.#options = options
    this.#add(this.defaultName, undefined)
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
    return this.#open.get(vhostKey(this.defaultName, undefined))!
  }

  /**
   * The vhost of that name, or the default one, for that login. One that is not in use yet is tried with a connection of its
   * own first, so that a misspelt name costs one refused connection and no place.
   * @throws Problem vhost_not_found, unauthorized (RabbitMQ does not take the login any more), broker_unavailable, overloaded:
   *   too many vhosts in use
   */
  async get(name = this.defaultName, login?: Login): Promise<Vhost> {
    const id = vhostKey(name, login)
    if (!this.#open.has(id)) await this.#probe(name, login)
    const vhost = this.#open.get(id) ?? this.#add(name, login)
    vhost.lastUsed = Date.now()
    return vhost
  }

  all(): Vhost[] {
    return [...this.#open.values()]
  }

  /** Whether the epoch is, or was, one of this instance's, in that vhost or any: then nobody else knows more of its leases. */
  knows(epoch: string, vhost?: string): boolean {
    if (epoch === this.instance || this.#pastEpochs.has(epoch)) return true
    return this.all().some((open) => (vhost === undefined || open.name === vhost) && open.knows(epoch))
  }

  /** Ends the connections of a login; what they held is back in its queues. */
  drop({ key }: Login): void {
    for (const [id, vhost] of this.#open) {
      if (vhost.login?.key !== key) continue
      this.#open.delete(id)
      void vhost.close()
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#ticks)
    await Promise.all(this.all().map((vhost) => vhost.close()))
  }

  #add(name: string, login: Login | undefined): Vhost {
    const instance = this.#options.config.AUTH.includes('broker')
      ? { name: this.instance, answers: !login && name === this.defaultName }
      : undefined
    const vhost = new Vhost({ ...this.#options, vhost: name, login, instance })
    this.#open.set(vhostKey(name, login), vhost)
    return vhost
  }

  #probe(name: string, login: Login | undefined): Promise<void> {
    const id = vhostKey(name, login)
    const running = this.#probes.get(id)
    if (running) return running
    if (this.#open.size + this.#probes.size >= this.#options.config.MAX_VHOSTS) {
      throw new Problem('overloaded', 'Too many vhosts are in use at the same time.')
    }
    const probe = this.#tryOut(name, login).finally(() => this.#probes.delete(id))
    this.#probes.set(id, probe)
    return probe
  }

  async #tryOut(name: string, login: Login | undefined): Promise<void> {
    const { config, log } = this.#options
    const connection = new BrokerConnection({ config, log, role: 'admin', vhost: name, login })
    try {
      await connection.ready()
    } finally {
      void connection.close()
    }
  }

  /** Lets vhosts go that nobody uses, and those that the broker refuses because they were deleted, or their user was. */
  #letGo(): void {
    for (const [id, vhost] of this.#open) {
      if (vhost === this.default || vhost.inUse) continue
      if (vhost.publisher.connection.isRefused || Date.now() - vhost.lastUsed > this.#options.config.VHOST_IDLE) {
        this.#open.delete(id)
        for (const epoch of vhost.leaseConnections.flatMap(({ epochs }) => epochs)) this.#pastEpochs.add(epoch)
        void vhost.close()
      }
    }
    while (this.#pastEpochs.size > MAX_PAST_EPOCHS) this.#pastEpochs.delete(this.#pastEpochs.values().next().value!)
  }
}

/** The names of vhosts are texts of up to 255 bytes, keys of logins are digests: neither has the separator. */
const vhostKey = (name: string, login: Login | undefined): string => `${login?.key ?? ''}\0${name}`
