// The entrance to leases: makes leases of deliveries, and carries commands to the instance that holds them, this one or another.

import type { Delivery, DeliveryHolder } from '../amqp/consume/delivery.js'
import { giveBack } from '../amqp/consume/receive.js'
import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Login } from '../amqp/wire/connection.js'
import { type Config, longestLease } from '../config/index.js'
import { now, timestamp } from '../lib/clock.js'
import { formatDuration } from '../lib/units.js'
import { Problem } from '../problems.js'
import {
  conflictResult,
  expiredResult,
  failedResult,
  goneResult,
  type LeaseCommand,
  type LeaseResult,
  settleOutcomeUnknown,
  viewOf,
} from './commands.js'
import { Forwarder, type ForwarderOptions, type LeaseHolder } from './forwarder.js'
import { LeaseIds, loginDigest } from './id.js'
import { Settlements, type SettlementsOptions } from './settlements.js'
import { type Lease, LeaseTable } from './table.js'

const LEASE_EXPIRED = { reason: 'The lease ran out.', by: 'lease_expired' } as const

/** On whose behalf commands run. */
export interface Caller {
  /** The only vhost whose leases may be named, if the request names one. */
  vhost?: string | undefined
  /** Whether the caller may read a queue, and so settle its leases; absent: every queue. */
  mayRead?: (vhost: string, queue: string) => boolean
  /** A RabbitMQ user: they may settle only the leases that they received themselves. */
  login?: Login | undefined
}

export type LeasesOptions = ForwarderOptions & SettlementsOptions

/** What to lease, and for how long. */
export interface NewLeases {
  vhost: Vhost
  queue: string
  epoch: string
  deliveries: Delivery[]
  /** Whether the retry policy of the queue leaves them alone. */
  ignoresPolicy?: boolean
  /** Milliseconds that each lease lasts. */
  duration: number
  /** When the receive began, on the monotonic clock: RabbitMQ's consumer timeout may have started then. */
  receivedAt: number
}

/** The leases of this instance, and the way to those of the others. */
export class Leases {
  readonly #config: Config
  readonly #vhosts: Vhosts
  readonly #forwarder: Forwarder
  readonly #ids: LeaseIds
  readonly #table: LeaseTable
  /** Milliseconds that a lease may last with all its extensions. */
  readonly #longest: number
  readonly #settlements: Settlements

  constructor(options: LeasesOptions) {
    this.#config = options.config
    this.#vhosts = options.vhosts
    this.#forwarder = new Forwarder(options)
    this.#ids = new LeaseIds(options.config, options.vhosts.instance)
    this.#settlements = new Settlements(options)
    this.#table = new LeaseTable({
      metrics: options.metrics,
      maxRemembered: options.config.MAX_REMEMBERED_SETTLES,
      onExpired: (lease) => this.#settlements.settlementOf(lease, { action: 'requeue', failure: LEASE_EXPIRED }),
    })
    this.#longest = longestLease(options.config)
  }

  /** How many leases this instance holds. */
  get open(): number {
    return this.#table.size
  }

  /** How many settled leases are remembered, so that the same settle again succeeds. */
  get rememberedCount(): number {
    return this.#table.rememberedCount
  }

  /** @throws Problem too_many_leases: there is no room for this many more */
  requireRoom(more: number): void {
    const problem = this.roomProblem(more)
    if (problem) throw problem
  }

  /** The problem if there is no room for this many more leases. */
  roomProblem(more: number): Problem | undefined {
    if (this.#table.size + more <= this.#config.MAX_LEASES) return undefined
    return new Problem(
      'too_many_leases',
      `This instance already holds the most leases it may (MAX_LEASES ${this.#config.MAX_LEASES}).`,
    )
  }

  /** Leases deliveries, from now on. */
  create(leased: NewLeases): Lease[] {
    const { vhost: leasedIn, queue, epoch, deliveries, duration, receivedAt, ignoresPolicy = false } = leased
    const { name: vhost, login } = leasedIn
    const time = now()
    const receivedBy = login && loginDigest(login.subject)
    return deliveries.map((delivery) => {
      const lease: Lease = {
        id: this.#ids.create(epoch, vhost, queue, receivedBy),
        vhost,
        queue,
        receivedBy,
        ignoresPolicy,
        delivery,
        leasedAt: time,
        expiresAt: time + duration,
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

  /** Whether the lease is still held here. */
  isOpen(lease: Lease): boolean {
    return this.#table.get(lease.id) === lease
  }

  /** Ends the leases that are still active and returns their deliveries, which the caller gives back. */
  takeBack(leases: Lease[]): Delivery[] {
    return this.#table.takeBack(leases)
  }

  /** Gives the leases of a receive back whose response did not reach the client. Resolves when RabbitMQ has the messages. */
  async release(leases: Lease[], brokerVersion: string): Promise<void> {
    await giveBack(this.#table.takeBack(leases), brokerVersion)
  }

  /** Ends the leases of a queue that was deleted. */
  queueDeleted(vhost: string, queue: string): void {
    this.#table.loseQueue(vhost, queue)
  }

  /**
   * Runs commands, each on its own, here or at the instances that hold the leases. Resolves with a result for each, in order; a
   * success means that RabbitMQ has taken it. Never throws over a single command.
   */
  async run(commands: LeaseCommand[], caller: Caller = {}): Promise<LeaseResult[]> {
    const results = new Array<LeaseResult>(commands.length)
    const here: number[] = []
    const elsewhere = new Map<string, LeaseHolder & { indexes: number[] }>()
    for (const [index, { id }] of commands.entries()) {
      const found = this.#locate(id, caller)
      if ('problem' in found) results[index] = found.problem
      else if (!found.holder) here.push(index)
      else {
        const holder = elsewhere.get(found.holder.epoch) ?? { ...found.holder, indexes: [] }
        holder.indexes.push(index)
        elsewhere.set(holder.epoch, holder)
      }
    }
    const of = (indexes: number[]) => indexes.flatMap((index) => commands[index] ?? [])
    const take = (indexes: number[], answers: LeaseResult[]) => {
      for (const [n, index] of indexes.entries()) results[index] = answers[n] ?? goneResult()
    }
    const local = this.#runHere(of(here))
    const remote = [...elsewhere.values()].map(async ({ indexes, ...holder }) =>
      take(indexes, await this.#forwarder.forward(holder, of(indexes))),
    )
    take(here, await local)
    await Promise.all(remote)
    return results
  }

  /** Answers commands that came from another instance: for leases held here only, since no command is passed on twice. */
  async runEncoded(message: Buffer): Promise<Buffer> {
    const { commands } = JSON.parse(message.toString('utf8')) as { commands: LeaseCommand[] }
    return Buffer.from(JSON.stringify({ results: await this.#runHere(commands) }))
  }

  /** Gives everything back, in order of delivery, and stops. */
  async close(): Promise<void> {
    const byChannel = new Map<DeliveryHolder, Delivery[]>()
    for (const delivery of this.#table.takeBack(this.#table.all())) {
      const others = byChannel.get(delivery.channel)
      if (others) others.push(delivery)
      else byChannel.set(delivery.channel, [delivery])
    }
    const brokerVersion = this.#vhosts.default.leaseConnections[0]?.connection.brokerVersion ?? ''
    await Promise.all([...byChannel.values()].map((deliveries) => giveBack(deliveries, brokerVersion)))
    this.#table.close()
  }

  /** Where the lease is held (undefined: here), or why the caller may not have it. */
  #locate(id: string, { vhost, mayRead, login }: Caller): { holder: LeaseHolder | undefined } | { problem: LeaseResult } {
    const lease = this.#table.get(id)
    const parsed = lease ? undefined : this.#ids.read(id)
    const named = lease ?? parsed
    const leasedIn = named?.vhost ?? this.#vhosts.defaultName
    if (!named || (vhost !== undefined && vhost !== leasedIn)) {
      return { problem: failedResult('lease_not_found', 'No lease ever had this id.') }
    }
    if (named.receivedBy !== (login && loginDigest(login.subject))) {
      const detail = 'The lease belongs to another user: only the user who received the message may settle it.'
      return { problem: failedResult('access_refused', detail) }
    }
    // Refused before it is known whether the lease still exists, so that every instance answers the same.
    if (mayRead && !mayRead(leasedIn, named.queue)) {
      return { problem: failedResult('access_refused', "This requires `read` on the lease's queue.") }
    }
    if (!parsed || this.#table.remembered(id) || this.#vhosts.knows(parsed.epoch, leasedIn)) return { holder: undefined }
    const { epoch, instance, receivedBy } = parsed
    return { holder: { vhost: leasedIn, epoch, ofLogin: receivedBy !== undefined, instance } }
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
        return lease.settling ? conflictResult() : this.#ifThere(lease, this.#extend(lease, command.lease ?? lease.duration))
      case 'get':
        return lease.settling ? goneResult() : this.#ifThere(lease, { ok: true, view: viewOf(lease) })
    }
  }

  /** The result, or that the lease is gone if its queue was deleted. RabbitMQ does not tell unless it is asked. */
  async #ifThere(lease: Lease, result: LeaseResult): Promise<LeaseResult> {
    try {
      await lease.delivery.channel.look()
    } catch {
      return goneResult()
    }
    return this.isOpen(lease) ? result : goneResult()
  }

  /** The same settle again has the same result, another one is a conflict, and a lease whose outcome was unknown is gone. */
  #over(command: LeaseCommand): LeaseResult {
    const remembered = this.#table.remembered(command.id)
    if (remembered?.outcome === 'expired') return expiredResult()
    if (remembered?.outcome !== 'settled' || command.op === 'get') return goneResult()
    return command.op === 'settle' && command.action === remembered.action ? { ok: true } : conflictResult()
  }

  async #settle(lease: Lease, command: LeaseCommand & { op: 'settle' }): Promise<LeaseResult> {
    const { action } = command
    if (lease.settling && lease.settling.action !== action) return conflictResult()
    try {
      const settling =
        lease.settling?.outcome ?? this.#table.settle(lease, action, this.#settlements.settlementOf(lease, command))
      const outcome = await settling
      if (outcome === 'gone') return goneResult()
      return outcome === 'settled' ? { ok: true } : settleOutcomeUnknown()
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      if (error.code === 'lease_gone') return goneResult()
      return failedResult(error.code, `The lease stays open: the message could not be published for later. ${error.message}`)
    }
  }

  #extend(lease: Lease, duration: number): LeaseResult {
    const end = now() + duration
    if (end > lease.lastEnd) {
      const lastEnd = timestamp(lease.lastEnd)
      const detail = `With all extensions a lease lasts at most ${formatDuration(this.#longest)}, here until ${lastEnd}. Its end did not change.`
      return failedResult('max_lease_exceeded', detail)
    }
    this.#table.extend(lease, end)
    return { ok: true, view: viewOf(lease) }
  }
}
