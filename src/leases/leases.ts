// The entrance to leases: makes them of deliveries, and carries commands to whoever holds them, here or at another instance.

import type { Delivery } from '../amqp/consume/delivery.js'
import { giveBack } from '../amqp/consume/receive.js'
import type { Vhost, Vhosts } from '../amqp/vhost.js'
import type { Login } from '../amqp/wire/connection.js'
import { type Config, longestLease } from '../config/index.js'
import type { Log } from '../lib/log.js'
import { formatDuration } from '../lib/units.js'
import { Problem } from '../problems.js'
import {
  conflictResult,
  failedResult,
  goneResult,
  type LeaseCommand,
  type LeaseResult,
  settleOutcomeUnknown,
  viewOf,
} from './commands.js'
import { type AskDirectly, Forwarder, type LeaseHolder } from './forwarder.js'
import { LeaseIds, loginDigest } from './id.js'
import { Settlements, type SettlementsOptions } from './settlements.js'
import { type Lease, LeaseTable } from './table.js'

/** Whose commands they are. */
export interface Caller {
  /** The only vhost whose leases are meant, where the request named one. */
  vhost?: string | undefined
  /** Whether he may read a queue, and so settle its leases; absent: every one. */
  mayRead?: (vhost: string, queue: string) => boolean
  /** He is somebody whom RabbitMQ knows: then the leases are his that he received himself. */
  login?: Login | undefined
}

export interface LeasesOptions extends SettlementsOptions {
  config: Config
  log: Log
  /** Looked up late: the vhosts in turn answer other instances' commands through these leases. */
  vhosts: () => Vhosts
  askDirectly?: AskDirectly | undefined
}

export class Leases {
  readonly #config: Config
  readonly #vhosts: () => Vhosts
  readonly #forwarder: Forwarder
  readonly #ids: LeaseIds
  readonly #table: LeaseTable
  readonly #longest: number
  readonly #settlements: Settlements

  constructor(options: LeasesOptions) {
    this.#config = options.config
    this.#vhosts = options.vhosts
    this.#forwarder = new Forwarder(options)
    this.#ids = new LeaseIds(options.config)
    this.#settlements = new Settlements(options)
    this.#table = new LeaseTable({
      metrics: options.metrics,
      maxRemembered: options.config.MAX_REMEMBERED_SETTLES,
      onExpired: (lease) => this.#settlements.settlementOf(lease, { verdict: 'requeue' }),
    })
    this.#longest = longestLease(options.config)
  }

  get open(): number {
    return this.#table.size
  }

  /** Settled leases whose settle is remembered. */
  get rememberedCount(): number {
    return this.#table.rememberedCount
  }

  /** @throws Problem too_many_leases */
  requireRoom(max: number): void {
    const refusal = this.roomProblem(max)
    if (refusal) throw refusal
  }

  /** Why there is no room for so many more; undefined where there is. */
  roomProblem(more: number): Problem | undefined {
    if (this.#table.size + more <= this.#config.MAX_LEASES) return undefined
    return new Problem('too_many_leases', `This instance holds as many leases as it may (${this.#config.MAX_LEASES}).`)
  }

  /**
   * Leases of what was just delivered. They count from now.
   * @param receivedAt when the receive began: the broker's clock for them may have started then
   */
  create(
    { name: vhost, login }: Vhost,
    queue: string,
    epoch: string,
    deliveries: Delivery[],
    duration: number,
    receivedAt: number,
  ): Lease[] {
    const now = Date.now()
    const owner = login && loginDigest(login.subject)
    return deliveries.map((delivery) => {
      const lease: Lease = {
        id: this.#ids.create(epoch, vhost, queue, owner),
        vhost,
        queue,
        receivedBy: owner,
        delivery,
        leasedAt: now,
        expiresAt: now + duration,
        lastEnd: receivedAt + this.#longest,
        duration,
        settling: undefined,
        onEnd: undefined,
        slot: 0,
      }
      this.#table.add(lease)
      return lease
    })
  }

  isOpen(lease: Lease): boolean {
    return this.#table.get(lease.id) === lease
  }

  /** Ends leases whose deliveries the caller gives back itself: of those that are still active. */
  takeBack(leases: Lease[]): Delivery[] {
    return this.#table.takeBack(leases)
  }

  /** Gives leases of one receive back whose answer did not reach the client. */
  async release(leases: Lease[], brokerVersion: string): Promise<void> {
    await giveBack(this.#table.takeBack(leases), brokerVersion)
  }

  /** Tells that a queue was deleted: its leases are over. */
  queueDeleted(vhost: string, queue: string): void {
    this.#table.loseQueue(vhost, queue)
  }

  /**
   * Carries the commands out, each on its own, and resolves with a result each, in order. Success is told only after the
   * broker has taken it. Never throws for a single command's sake.
   */
  async run(commands: LeaseCommand[], { vhost, mayRead, login }: Caller = {}): Promise<LeaseResult[]> {
    const results: LeaseResult[] = new Array(commands.length)
    const here: number[] = []
    const elsewhere = new Map<string, LeaseHolder & { indexes: number[] }>()
    const asker = login && loginDigest(login.subject)
    for (const [index, { id }] of commands.entries()) {
      const lease = this.#table.get(id)
      const parsed = lease ? undefined : this.#ids.read(id)
      const named = lease ?? parsed
      const leasedIn = named?.vhost ?? this.#vhosts().defaultName
      if (!named || (vhost !== undefined && vhost !== leasedIn)) {
        results[index] = failedResult('lease_not_found', 'No lease ever had that id here.')
      } else if (named.receivedBy !== asker) {
        results[index] = failedResult(
          'access_refused',
          'The lease is of somebody else: only who received the message may settle it.',
        )
      } else if (mayRead && !mayRead(leasedIn, named.queue)) {
        // Before it is known whether the lease is still there, and the same at every instance.
        results[index] = failedResult('access_refused', "This wants `read` on the lease's queue.")
      } else if (!parsed || this.#table.remembered(id) || this.#vhosts().knows(parsed.epoch, leasedIn)) {
        here.push(index)
      } else {
        const { epoch, url } = parsed
        const ofLogin = parsed.receivedBy !== undefined
        const owner = elsewhere.get(epoch) ?? { vhost: leasedIn, epoch, ofLogin, url, indexes: [] }
        owner.indexes.push(index)
        elsewhere.set(epoch, owner)
      }
    }
    const local = this.#runHere(here.map((index) => commands[index]!))
    const remote = [...elsewhere.values()].map(async ({ indexes, ...owner }) => {
      const answers = await this.#forwarder.forward(
        owner,
        indexes.map((index) => commands[index]!),
      )
      for (const [n, index] of indexes.entries()) results[index] = answers[n]!
    })
    const done = await local
    for (const [n, index] of here.entries()) results[index] = done[n]!
    await Promise.all(remote)
    return results
  }

  /** Answers commands that came from another instance. */
  async runEncoded(message: Buffer): Promise<Buffer> {
    const { commands } = JSON.parse(message.toString('utf8')) as { commands: LeaseCommand[] }
    // Only what is held here: a command is never passed on a second time.
    return Buffer.from(JSON.stringify({ results: await this.#runHere(commands) }))
  }

  /** Gives everything back, in order of delivery, and stops. */
  async close(): Promise<void> {
    const channels = new Map<unknown, Delivery[]>()
    for (const delivery of this.#table.takeBack(this.#table.all())) {
      channels.set(delivery.channel, [...(channels.get(delivery.channel) ?? []), delivery])
    }
    const { brokerVersion } = this.#vhosts().default.leaseConnections[0]!.connection
    await Promise.all([...channels.values()].map((deliveries) => giveBack(deliveries, brokerVersion)))
    this.#table.close()
  }

  #runHere(commands: LeaseCommand[]): Promise<LeaseResult[]> {
    return Promise.all(commands.map((command) => this.#runOne(command)))
  }

  #runOne(command: LeaseCommand): LeaseResult | Promise<LeaseResult> {
    const lease = this.#table.get(command.id)
    if (!lease) return this.#over(command)
    switch (command.op) {
      case 'settle':
        return this.#settle(lease, command)
      case 'extend':
        return lease.settling ? conflictResult() : this.#extend(lease, command.lease ?? lease.duration)
      case 'get':
        return lease.settling ? goneResult() : { ok: true, view: viewOf(lease) }
    }
  }

  /** The same settle again is what it was; another one is a conflict; what was unknown is over by now. */
  #over(command: LeaseCommand): LeaseResult {
    const remembered = this.#table.remembered(command.id)
    if (remembered?.outcome !== 'settled' || command.op === 'get') return goneResult()
    return command.op === 'settle' && command.verdict === remembered.action ? { ok: true } : conflictResult()
  }

  async #settle(lease: Lease, command: LeaseCommand & { op: 'settle' }): Promise<LeaseResult> {
    const { verdict } = command
    if (lease.settling && lease.settling.wish !== verdict) return conflictResult()
    try {
      const settling =
        lease.settling?.outcome ?? this.#table.settle(lease, verdict, this.#settlements.settlementOf(lease, command))
      return (await settling) === 'settled' ? { ok: true } : settleOutcomeUnknown()
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      return failedResult(error.code, `The lease goes on: its message could not be put aside. ${error.message}`)
    }
  }

  #extend(lease: Lease, duration: number): LeaseResult {
    const end = Date.now() + duration
    if (end > lease.lastEnd) {
      const detail = `In all a lease can last ${formatDuration(this.#longest)}, until ${new Date(lease.lastEnd).toISOString()}. It still ends when it did.`
      return failedResult('max_lease_exceeded', detail)
    }
    this.#table.extend(lease, end)
    return { ok: true, view: viewOf(lease) }
  }
}
