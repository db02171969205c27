// All redrives: begins, shows and stops them, wherever they run, and takes over those whose instance is gone.

import { randomUUID } from 'node:crypto'
import { DEFAULT_EXCHANGE, type WrittenRights } from '../access/rights.js'
import type { Vhost } from '../amqp/vhost.js'
import { waitQuietly } from '../amqp/wire/deadline.js'
import { streamQueueProblem } from '../amqp/wire/errors.js'
import type { Definition } from '../definitions/definitions.js'
import { now, timestamp, wallTime } from '../lib/clock.js'
import { Problem } from '../problems.js'
import { Runner, type RunnerServices } from './runner.js'
import { REDRIVE_KIND, type RedriveRequest, type RedriveTarget, type RedriveTask } from './task.js'

const TAKEOVER_TICK_MS = 1000
/** A redrive without a change for this time has lost its instance. */
const ORPHANED_AFTER_MS = 15_000
const MAX_RUNNING = 100
const MAX_ENDED = 1000
const KEEP_ENDED_MS = 24 * 3_600_000
const FORGET_ENDED_INTERVAL_MS = 60_000

/** The redrives of all instances. */
export class Redrives {
  readonly #services: RunnerServices
  readonly #runners = new Map<string, Runner>()
  /** Redrives that are being taken over. */
  readonly #claimed = new Set<string>()
  /** When this instance first saw the present revision of a redrive that runs elsewhere. */
  readonly #seen = new Map<string, { revision: number; at: number }>()
  readonly #ticks: NodeJS.Timeout
  readonly #endWatch: () => void
  #lookedForEnded = now()
  #closing: Promise<void> | undefined

  constructor(services: RunnerServices) {
    this.#services = services
    this.#endWatch = services.definitions.watch(REDRIVE_KIND, (id, entry) =>
      this.#runners.get(id)?.onDefinition(entry as Definition<RedriveTask> | undefined),
    )
    this.#ticks = setInterval(() => this.#tick(), TAKEOVER_TICK_MS)
  }

  /** How many redrives run on this instance. */
  get running(): number {
    return this.#runners.size
  }

  /**
   * Begins to redrive a queue. Resolves when the redrive is defined; it goes on in the background.
   * @param rights the caller's right to `write`
   * @throws Problem queue_not_found, exchange_not_found, stream_queue, precondition_failed (another redrive of the queue runs),
   *   broker_unavailable, broker_blocked, broker_timeout, overloaded
   */
  async begin(order: RedriveRequest, rights: WrittenRights): Promise<RedriveTask> {
    const { vhosts, definitions } = this.#services
    if (this.#closing) throw new Problem('shutting_down', 'The gateway is shutting down and begins no redrives.')
    if (this.#entries().filter(isRunning).length >= MAX_RUNNING) {
      throw new Problem('overloaded', `The most redrives that may run are running (${MAX_RUNNING}).`)
    }
    const vhost = await vhosts.get(order.vhost)
    if ((await vhost.topology.queueTypes.currentType(order.queue)) === 'stream') throw streamQueueProblem()
    if (order.to) await lookUp(vhost, order.to)
    const { messageCount } = await vhost.topology.lookUpQueue(order.queue)
    this.#refuseSecond(order)
    const begin = timestamp()
    const task: RedriveTask = {
      id: randomUUID(),
      ...order,
      rights,
      state: 'running',
      moved: 0,
      matched: 0,
      skipped: 0,
      failed: 0,
      total: messageCount,
      started_at: begin,
      updated_at: begin,
      instance: vhosts.instance,
    }
    const entry = await definitions.put(REDRIVE_KIND, task.id, task, { expected: 0 })
    if (!entry) throw new Problem('broker_unavailable', 'The redrive did not begin. Try again.')
    try {
      this.#refuseSecond(task, task.id)
    } catch (error) {
      await definitions.delete(REDRIVE_KIND, task.id)
      throw error
    }
    this.#run(entry)
    return task
  }

  list(): RedriveTask[] {
    return this.#entries().map(({ key, value }) => this.#runners.get(key)?.task ?? value)
  }

  /** The redrive: its current state if it runs here, or else the state of the last second. */
  get(id: string): RedriveTask | undefined {
    return this.#runners.get(id)?.task ?? this.#services.definitions.get<RedriveTask>(REDRIVE_KIND, id)?.value
  }

  /**
   * Stops a redrive, on whichever instance it runs, or removes one that has ended from the list. Resolves when it has stopped, or
   * after BROKER_TIMEOUT, if its instance does not confirm it in time.
   * @throws Problem broker_unavailable, broker_blocked, broker_timeout
   */
  async stop(id: string): Promise<void> {
    const { definitions } = this.#services
    for (;;) {
      const entry = definitions.get<RedriveTask>(REDRIVE_KIND, id)
      if (!entry) return
      const { value, revision: expected } = entry
      if (!isRunning(entry)) {
        await definitions.delete(REDRIVE_KIND, id, { expected })
        return
      }
      if (value.stop || (await definitions.put(REDRIVE_KIND, id, { ...value, stop: true }, { expected }))) break
    }
    await this.#stopped(id)
  }

  /** Leaves the redrives that run here to other instances, and begins no more. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      clearInterval(this.#ticks)
      await Promise.all([...this.#runners.values()].map((runner) => runner.release()))
      this.#endWatch()
    })()
    return this.#closing
  }

  #entries(): Definition<RedriveTask>[] {
    return this.#services.definitions.list<RedriveTask>(REDRIVE_KIND)
  }

  /** If a queue has several redrives, the first in the log runs: all instances see the same one. */
  #first({ vhost, queue }: RedriveRequest): RedriveTask | undefined {
    return this.#entries().find((entry) => isRunning(entry) && entry.value.vhost === vhost && entry.value.queue === queue)?.value
  }

  #refuseSecond(order: RedriveRequest, id?: string): void {
    const first = this.#first(order)
    if (first && first.id !== id)
      throw new Problem('precondition_failed', `Another redrive of the queue is running: ${first.id}.`)
  }

  #run(entry: Definition<RedriveTask>): void {
    const runner = new Runner(this.#services, entry)
    this.#runners.set(entry.key, runner)
    void runner.ended.finally(() => this.#runners.delete(entry.key))
    if (this.#closing) void runner.release()
  }

  #tick(): void {
    const time = now()
    if (!this.#services.definitions.following) {
      this.#seen.clear()
      return
    }
    const entries = this.#entries()
    for (const entry of entries) if (isRunning(entry) && this.#isOrphan(entry, time)) void this.#takeOver(entry)
    for (const id of this.#seen.keys()) if (!this.#services.definitions.get(REDRIVE_KIND, id)) this.#seen.delete(id)
    if (time - this.#lookedForEnded > FORGET_ENDED_INTERVAL_MS) {
      this.#lookedForEnded = time
      void this.#forgetEnded(entries)
    }
  }

  #isOrphan({ key, value, revision }: Definition<RedriveTask>, time: number): boolean {
    if (this.#runners.has(key) || this.#claimed.has(key) || this.#first(value)?.id !== key) return false
    if (value.instance === undefined) return true
    const seen = this.#seen.get(key)
    if (seen?.revision === revision) return time - seen.at > ORPHANED_AFTER_MS
    this.#seen.set(key, { revision, at: time })
    return false
  }

  async #takeOver({ key, value, revision: expected }: Definition<RedriveTask>): Promise<void> {
    const { definitions, vhosts, log } = this.#services
    this.#claimed.add(key)
    try {
      const entry = await definitions.put(REDRIVE_KIND, key, { ...value, instance: vhosts.instance }, { expected })
      if (!entry) return
      log.info({ redrive: key, vhost: value.vhost, queue: value.queue }, 'redrive taken over')
      this.#run(entry)
    } catch (error) {
      log.debug({ err: error, redrive: key }, 'redrive could not be taken over')
    } finally {
      this.#claimed.delete(key)
    }
  }

  /** Waits until it has ended, at most BROKER_TIMEOUT. */
  async #stopped(id: string): Promise<void> {
    const { definitions, config } = this.#services
    let end: (() => void) | undefined
    const stopped = new Promise<void>((resolve) => {
      end = definitions.watch(REDRIVE_KIND, () => {
        const entry = definitions.get<RedriveTask>(REDRIVE_KIND, id)
        if (!entry || !isRunning(entry)) resolve()
      })
    })
    await waitQuietly(config.BROKER_TIMEOUT, stopped)
    end?.()
  }

  async #forgetEnded(entries: Definition<RedriveTask>[]): Promise<void> {
    for (const { key, revision: expected } of expiredRedrives(entries, wallTime())) {
      await this.#services.definitions.delete(REDRIVE_KIND, key, { expected }).catch(() => undefined)
    }
  }
}

/** Those that ended over a day ago, and all but the last 1000 that ended. @param entries in order of their begin */
export function expiredRedrives(entries: Definition<RedriveTask>[], time: number): Definition<RedriveTask>[] {
  const ended = entries.filter((entry) => !isRunning(entry))
  return ended.filter(({ value }, n) => n < ended.length - MAX_ENDED || Date.parse(value.ended_at!) < time - KEEP_ENDED_MS)
}

const isRunning = ({ value }: Definition<RedriveTask>): boolean => value.state === 'running'

/** Checks that the target exists. @throws Problem queue_not_found, exchange_not_found */
async function lookUp(vhost: Vhost, to: RedriveTarget): Promise<void> {
  if ('queue' in to) await vhost.topology.lookUpQueue(to.queue)
  else await vhost.topology.lookUpExchange(to.exchange === DEFAULT_EXCHANGE ? '' : to.exchange)
}
