// The vhosts in use: who has connections where, and when they are let go.

import { Problem } from '../problems.js'
import { MAX_PAST_EPOCHS, newEpoch } from './consume/lease-connection.js'
import { Vhost, type VhostOptions } from './vhost.js'
import { BrokerConnection, type Login } from './wire/connection.js'

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
