// The entrance to leases: makes them of deliveries, and carries commands to whoever holds them, here or at another instance.

import type { Login } from '../amqp/connection.js'
import type { Delivery } from '../amqp/delivery-channel.js'
import { giveBack } from '../amqp/receive.js'
import type { Vhost, Vhosts } from '../amqp/vhost.js'
import { type Config, longestLease } from '../config.js'
import type { Log } from '../log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import { formatDuration } from '../units.js'
import { failed, gone, type LeaseCommand, type LeaseResult, viewOf } from './commands.js'
import { LeaseIds, ownerDigest } from './id.js'
import { copyOf, type Later } from './later.js'
import { type Lease, LeaseTable } from './table.js'

const FORWARD_MARGIN = 500

/** Whose commands they are. */
export interface Asker {
  /** The only vhost whose leases are meant, where the request named one. */
  vhost?: string | undefined
  /** Whether he may read a queue, and so settle its leases; absent: every one. */
  mayRead?: (vhost: string, queue: string) => boolean
  /** He is somebody whom RabbitMQ knows: then the leases are his that he received himself. */
  login?: Login | undefined
}

export class Leases {
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #log: Log
  readonly #vhosts: () => Vhosts
  readonly #ids: LeaseIds
  readonly #table: LeaseTable
  readonly #longest: number
  readonly #later: Later

  /** @param options.vhosts looked up late: the vhosts in turn answer other instances' commands through these leases */
  constructor(options: { config: Config; metrics: Metrics; log: Log; vhosts: () => Vhosts; later: Later }) {
    this.#later = options.later
    this.#config = options.config
    this.#metrics = options.metrics
    this.#log = options.log
    this.#vhosts = options.vhosts
    this.#ids = new LeaseIds(options.config)
    this.#table = new LeaseTable({ metrics: options.metrics, remembered: options.config.REMEMBERED_SETTLES })
    this.#longest = longestLease(options.config)
  }

  get open(): number {
    return this.#table.size
  }

  /** Settled leases whose settle is remembered. */
  get remembered(): number {
    return this.#table.remembered
  }

  /** @throws Problem too_many_leases */
  admit(max: number): void {
    if (this.#table.size + max > this.#config.MAX_LEASES) {
      throw new Problem('too_many_leases', `This instance holds as many leases as it may (${this.#config.MAX_LEASES}).`)
    }
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
    const owner = login && ownerDigest(login.owner)
    return deliveries.map((delivery) => {
      const lease: Lease = {
        id: this.#ids.create(epoch, vhost, queue, owner),
        vhost,
        queue,
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
  take(leases: Lease[]): Delivery[] {
    return this.#table.take(leases)
  }

  /** Gives leases of one receive back whose answer did not reach the client. */
  async release(leases: Lease[], brokerVersion: string): Promise<void> {
    await giveBack(this.#table.take(leases), brokerVersion)
  }

  /** Tells that a queue was deleted: its leases are over. */
  queueDeleted(vhost: string, queue: string): void {
    this.#table.loseQueue(vhost, queue)
  }

  /**
   * Carries the commands out, each on its own, and resolves with a result each, in order. Success is told only after the
   * broker has taken it. Never throws for a single command's sake.
   */
  async run(commands: LeaseCommand[], { vhost, mayRead, login }: Asker = {}): Promise<LeaseResult[]> {
    const results: LeaseResult[] = new Array(commands.length)
    const here: number[] = []
    const elsewhere = new Map<string, { vhost: string; epoch: string; ofLogin: boolean; indexes: number[] }>()
    const asker = login && ownerDigest(login.owner)
    for (const [index, { id }] of commands.entries()) {
      const parsed = this.#ids.read(id)
      const leasedIn = parsed?.vhost ?? this.#vhosts().defaultName
      if (!parsed || (vhost !== undefined && vhost !== leasedIn)) {
        results[index] = failed('lease_not_found', 'No lease ever had that id here.')
      } else if (parsed.owner !== asker) {
        results[index] = failed('access_refused', 'The lease is of somebody else: only who received the message may settle it.')
      } else if (mayRead && !mayRead(leasedIn, parsed.queue)) {
        // Before it is known whether the lease is still there, and the same at every instance.
        results[index] = failed('access_refused', "This wants `read` on the lease's queue.")
      } else if (this.#table.get(id) || this.#table.memory(id) || this.#knows(leasedIn, parsed.epoch)) {
        here.push(index)
      } else {
        const ofLogin = parsed.owner !== undefined
        const owner = elsewhere.get(parsed.epoch) ?? { vhost: leasedIn, epoch: parsed.epoch, ofLogin, indexes: [] }
        owner.indexes.push(index)
        elsewhere.set(parsed.epoch, owner)
      }
    }
    const local = this.#runHere(here.map((index) => commands[index]!))
    const remote = [...elsewhere.values()].map(async ({ vhost, epoch, ofLogin, indexes }) => {
      const answers = await this.#forward(
        ofLogin ? undefined : vhost,
        epoch,
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
    for (const delivery of this.#table.take(this.#table.all())) {
      channels.set(delivery.channel, [...(channels.get(delivery.channel) ?? []), delivery])
    }
    const { brokerVersion } = this.#vhosts().default.leaseConnections[0]!.connection
    await Promise.all([...channels.values()].map((deliveries) => giveBack(deliveries, brokerVersion)))
    this.#table.close()
  }

  #knows(vhost: string, epoch: string): boolean {
    if (epoch === this.#vhosts().instance) return true
    return this.#vhosts()
      .all()
      .some((open) => open.name === vhost && open.knows(epoch))
  }

  #runHere(commands: LeaseCommand[]): Promise<LeaseResult[]> {
    // All verdicts are written first, so that those of one channel wait for one barrier.
    const barriers = new Map<unknown, Promise<void>>()
    return Promise.all(commands.map((command) => this.#runOne(command, barriers)))
  }

  #runOne(command: LeaseCommand, barriers: Map<unknown, Promise<void>>): LeaseResult | Promise<LeaseResult> {
    const lease = this.#table.get(command.id)
    if (!lease) return this.#over(command)
    switch (command.op) {
      case 'settle':
        return this.#settle(lease, command, barriers)
      case 'extend':
        return lease.settling ? conflict() : this.#extend(lease, command.lease ?? lease.duration)
      case 'get':
        return lease.settling ? gone() : { ok: true, view: viewOf(lease) }
    }
  }

  /** The same settle again is what it was; another one is a conflict; what was unknown is over by now. */
  #over(command: LeaseCommand): LeaseResult {
    const memory = this.#table.memory(command.id)
    if (memory?.outcome !== 'settled' || command.op === 'get') return gone()
    return command.op === 'settle' && command.verdict === memory.verdict ? { ok: true } : conflict()
  }

  async #settle(
    lease: Lease,
    command: LeaseCommand & { op: 'settle' },
    barriers: Map<unknown, Promise<void>>,
  ): Promise<LeaseResult> {
    const { verdict } = command
    if (lease.settling && lease.settling.verdict !== verdict) return conflict()
    const { channel } = lease.delivery
    // A microtask later every verdict of this list is written.
    const barrier = () => {
      let shared = barriers.get(channel)
      if (!shared) {
        shared = Promise.resolve().then(() => channel.barrier())
        barriers.set(channel, shared)
      }
      return shared
    }
    try {
      lease.settling ?? this.#begin(lease, command, barrier)
      return (await lease.settling!.outcome) === 'settled' ? { ok: true } : outcomeUnknown()
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      return failed(error.code, `The lease goes on: its message could not be put aside. ${error.message}`)
    }
  }

  #begin(lease: Lease, command: LeaseCommand & { op: 'settle' }, barrier: () => Promise<void>): void {
    if (command.verdict === 'later') {
      // Its ack is written when its copy is safe: what the others of the list share may be over by then.
      const own = () => lease.delivery.channel.barrier()
      this.#table.settleLater(lease, this.#later(copyOf(lease, command.changes), command.delay), own)
    } else {
      this.#table.settle(lease, command.verdict, barrier)
    }
  }

  #extend(lease: Lease, duration: number): LeaseResult {
    const end = Date.now() + duration
    if (end > lease.lastEnd) {
      const detail = `In all a lease can last ${formatDuration(this.#longest)}, until ${new Date(lease.lastEnd).toISOString()}. It still ends when it did.`
      return failed('max_lease_exceeded', detail)
    }
    this.#table.extend(lease, end)
    return { ok: true, view: viewOf(lease) }
  }

  /** @param vhostName undefined: to the instance of that name, for leases of logins, which is not gone when it can't be found */
  async #forward(vhostName: string | undefined, epoch: string, commands: LeaseCommand[]): Promise<LeaseResult[]> {
    const body = Buffer.from(JSON.stringify({ commands }))
    let unanswered = false
    try {
      const vhost = await this.#vhosts().get(vhostName)
      // A dying owner's queue may still swallow a command; the same one again finds it gone, or its settle done.
      const answer = await this.#ask(vhost, epoch, body).catch((error) => {
        if (!(error instanceof Problem) || error.code !== 'rpc_timeout') throw error
        unanswered = true
        return this.#ask(vhost, epoch, body)
      })
      this.#metrics.forwarded('answered', commands.length)
      const { results } = JSON.parse(answer.toString('utf8')) as { results: LeaseResult[] }
      // What is over now may be so by the first command, whose answer nobody had.
      const overBy = ({ op }: LeaseCommand, result: LeaseResult) =>
        unanswered && op === 'settle' && !result.ok && result.code === 'lease_gone'
      return results.map((result, n) => (overBy(commands[n]!, result) ? outcomeUnknown() : result))
    } catch (error) {
      const code = error instanceof Problem ? error.code : undefined
      if (vhostName !== undefined && (code === 'unroutable' || code === 'vhost_not_found')) {
        this.#metrics.forwarded('gone', commands.length)
        // The owner may have settled it and died before it could say so.
        return commands.map(({ op }) => (unanswered && op === 'settle' ? outcomeUnknown() : gone()))
      }
      this.#log.warn({ err: error, epoch }, 'the owner of a lease can not be reached')
      this.#metrics.forwarded('unreachable', commands.length)
      return commands.map(() => failed('lease_unreachable', "The instance that holds the lease can't be reached just now."))
    }
  }

  #ask(vhost: Vhost, epoch: string, body: Buffer): Promise<Buffer> {
    // Longer than the owner waits for its barrier, so that it can say how that ended.
    return vhost.command(epoch, body, this.#config.BROKER_TIMEOUT + FORWARD_MARGIN)
  }
}

const outcomeUnknown = (): LeaseResult =>
  failed('settle_outcome_unknown', 'The connection went away before RabbitMQ was known to have taken the settle.')
const conflict = (): LeaseResult => failed('already_settled', 'The lease was settled in another way already.')
