// The vhosts in use: whose connections are open where, and when they are closed.

import { FifoMap } from 'toad-cache'
import { now } from '../lib/clock.js'
import { Problem } from '../problems.js'
import { MAX_PAST_EPOCHS, newEpoch } from './consume/lease-connection.js'
import { type CommandHandler, Vhost, type VhostOptions } from './vhost.js'
import { BrokerConnection, type Login } from './wire/connection.js'

const CLOSE_IDLE_INTERVAL_MS = 1000
/** Connections that were unused for this long give way if others need their place. */
const GIVES_WAY_AFTER_MS = 1000

/**
 * The connections of the gateway, by vhost and RabbitMQ user. The default vhost (the one in AMQP_URL) is open from the start
 * until `close()`; every other one from its first use until it has been idle for VHOST_IDLE.
 */
export class Vhosts {
  /** Names this process to other instances, for leases on connections of RabbitMQ users. */
  readonly instance = newEpoch()
  readonly #options: Omit<VhostOptions, 'vhost' | 'login' | 'instance' | 'onCommand'>
  readonly #open = new Map<string, Vhost>()
  readonly #probes = new Map<string, Promise<void>>()
  readonly #ticks: NodeJS.Timeout
  /** Epochs of vhosts that were closed. */
  readonly #pastEpochs = new FifoMap<true>(MAX_PAST_EPOCHS)
  #handler: CommandHandler | undefined

  constructor(options: Omit<VhostOptions, 'vhost' | 'login' | 'instance' | 'onCommand'>) {
    this.#options = options
    this.default = this.#add(this.defaultName, undefined)
    this.#ticks = setInterval(() => this.#closeIdle(), CLOSE_IDLE_INTERVAL_MS)
  }

  /** The vhost in AMQP_URL. */
  readonly default: Vhost

  get defaultName(): string {
    return this.#address.vhost
  }

  /** The user of the gateway's own connections: the only `user_id` that RabbitMQ lets one of their messages carry. */
  get username(): string {
    return this.default.publisher.connection.username ?? this.#address.username
  }

  /** Sets who answers the commands of other instances. Called once, before the first connection is up. */
  serve(handler: CommandHandler): void {
    this.#handler = handler
  }

  /**
   * The vhost of that name, or the default one, for a RabbitMQ user or the gateway's own. The first use of a vhost tries it with
   * one connection, so that a misspelt name costs a refused connection and nothing else.
   * @throws Problem vhost_not_found, unauthorized (RabbitMQ no longer accepts the user), broker_unavailable, overloaded (too
   *   many vhosts in use)
   */
  async get(name = this.defaultName, login?: Login): Promise<Vhost> {
    const key = vhostKey(name, login)
    if (!this.#open.has(key)) await this.#probe(name, login)
    const vhost = this.#open.get(key) ?? this.#add(name, login)
    vhost.lastUsed = now()
    return vhost
  }

  /** Every vhost in use. */
  all(): Vhost[] {
    return [...this.#open.values()]
  }

  /**
   * Whether the epoch is, or was, one of this instance: then no other instance knows more about its leases.
   * @param vhost the only vhost to look in
   */
  knows(epoch: string, vhost?: string): boolean {
    if (epoch === this.instance || this.#pastEpochs.get(epoch)) return true
    return this.all().some((open) => (vhost === undefined || open.name === vhost) && open.knows(epoch))
  }

  /** Closes the connections of a RabbitMQ user. Messages that they hold return to their queues. */
  drop({ key }: Login): void {
    for (const [id, vhost] of this.#open) {
      if (vhost.login?.key !== key) continue
      this.#open.delete(id)
      void vhost.close()
    }
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    clearInterval(this.#ticks)
    await Promise.all(this.all().map((vhost) => vhost.close()))
  }

  get #address() {
    const [address] = this.#options.config.AMQP_URL
    if (!address) throw new Error('AMQP_URL names no broker')
    return address
  }

  #add(name: string, login: Login | undefined): Vhost {
    const instance = this.#options.config.AUTH.includes('broker')
      ? { name: this.instance, answers: !login && name === this.defaultName }
      : undefined
    const onCommand: CommandHandler = (command) => {
      if (!this.#handler) throw new Error('a command came before there was a handler')
      return this.#handler(command)
    }
    const vhost = new Vhost({ ...this.#options, vhost: name, login, instance, onCommand })
    this.#open.set(vhostKey(name, login), vhost)
    return vhost
  }

  #probe(name: string, login: Login | undefined): Promise<void> {
    const key = vhostKey(name, login)
    const running = this.#probes.get(key)
    if (running) return running
    if (this.#open.size + this.#probes.size >= this.#options.config.MAX_VHOSTS && !this.#closeLongestUnused()) {
      throw new Problem('overloaded', 'Too many vhosts are in use at the same time.')
    }
    const probe = this.#tryOut(name, login).finally(() => this.#probes.delete(key))
    this.#probes.set(key, probe)
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

  /**
   * Closes own connections of queues and vhosts that nobody uses, and vhosts that RabbitMQ refuses because they, or their user,
   * were deleted.
   */
  #closeIdle(): void {
    for (const [key, vhost] of this.#open) {
      vhost.quarantine.closeIdle()
      if (vhost === this.default || vhost.inUse) continue
      if (vhost.publisher.connection.isRefused || now() - vhost.lastUsed > this.#options.config.VHOST_IDLE)
        this.#closeUnused(key, vhost)
    }
  }

  /** Makes room for another vhost or user. @returns whether there was a set of connections that nobody uses */
  #closeLongestUnused(): boolean {
    const unused = [...this.#open]
      .filter(([, vhost]) => vhost !== this.default && !vhost.inUse && !vhost.isPublishing)
      .filter(([, { lastUsed }]) => now() - lastUsed > GIVES_WAY_AFTER_MS)
      .sort(([, one], [, other]) => one.lastUsed - other.lastUsed)
    const [longest] = unused
    if (longest) this.#closeUnused(...longest)
    return longest !== undefined
  }

  #closeUnused(key: string, vhost: Vhost): void {
    this.#open.delete(key)
    for (const epoch of vhost.leaseConnections.flatMap(({ epochs }) => epochs)) this.#pastEpochs.set(epoch, true)
    void vhost.close()
  }
}

/** Names of vhosts are texts of up to 255 bytes, and keys of logins are digests: neither contains the separator. */
const vhostKey = (name: string, login: Login | undefined): string => `${login?.key ?? ''}\0${name}`
