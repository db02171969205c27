// Runs one redrive while this instance owns it, which it does while the others see it change. Each change expects the last
// one, so that if two instances believe that they own it, one learns that it does not.

import { Rights } from '../access/rights.js'
import type { Vhosts } from '../amqp/vhosts.js'
import { type Config, longestLease } from '../config/index.js'
import type { Definition, Definitions } from '../definitions/definitions.js'
import { type Backoff, waitAfter } from '../lib/backoff.js'
import { now, timestamp } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { Pause } from '../lib/pause.js'
import type { Metrics } from '../metrics.js'
import { isRetryable, Problem, type ProblemCode } from '../problems.js'
import { decide } from './decide.js'
import { RateLimit } from './rate.js'
import { Sweep } from './sweep.js'
import { REDRIVE_KIND, type RedriveState, type RedriveTask } from './task.js'

/** How often progress is checked, and the longest time without a change. */
const HEARTBEAT_TICK_MS = 1000
const HEARTBEAT_MS = 5000
/** After this time without a confirmed change it stops moving: another instance may have taken over. */
const OWNERSHIP_MS = 10_000
const SWEEP_BACKOFF: Backoff = { initial: 500, factor: 2, max: 30_000, jitter: 0.2 }
/**
 * Whether a redrive fails with this problem instead of sweeping the queue again. `overloaded` is retryable for a client, but a
 * sweep throws it if too many messages stay in the queue, and the next sweep would meet them again.
 */
export const endsRedrive = (code: ProblemCode): boolean => !isRetryable(code) || code === 'overloaded'

export interface RunnerServices {
  config: Config
  log: Log
  metrics: Metrics
  vhosts: Vhosts
  definitions: Definitions
}

/** Runs one redrive on this instance. */
export class Runner {
  /** Resolves when this instance no longer runs it. */
  readonly ended: Promise<void>
  readonly #services: RunnerServices
  /** The task, with the counts of earlier sweeps. */
  #task: RedriveTask
  #sweep: Sweep | undefined
  readonly #rateLimit: RateLimit
  readonly #beats: NodeJS.Timeout
  #isLost = false
  #isReleased = false
  #savedAt = now()
  #saved = ''
  #saving = false
  readonly #pause = new Pause()

  /** @param entry the definition, which names this instance */
  constructor(services: RunnerServices, { value }: Definition<RedriveTask>) {
    this.#services = services
    this.#task = value
    this.#rateLimit = new RateLimit(value.rate)
    this.#beats = setInterval(() => this.#heartbeat(), HEARTBEAT_TICK_MS)
    this.ended = this.#run()
  }

  /** The task with the counts of the present sweep. */
  get task(): RedriveTask {
    const pass = this.#sweep
    if (!pass) return this.#task
    const { matched, skipped, failed, moved } = pass
    const problem = pass.obstacle ?? pass.failure
    return {
      ...this.#task,
      matched: this.#task.moved + matched,
      skipped,
      failed,
      moved: this.#task.moved + moved,
      ...(problem && { last_error: errorText(problem) }),
    }
  }

  /** Called with its definition when it changes. */
  onDefinition(entry: Definition<RedriveTask> | undefined): void {
    if (entry?.value.instance !== this.#services.vhosts.instance) this.#isLost = true
    else if (!entry.value.stop) return
    else this.#task = { ...this.#task, stop: true }
    this.#interrupt()
  }

  /** Gives everything back and leaves the rest to another instance. */
  async release(): Promise<void> {
    this.#isReleased = true
    this.#interrupt()
    await this.ended
  }

  async #run(): Promise<void> {
    try {
      await this.#work()
    } catch (error) {
      this.#services.log.error({ err: error, redrive: this.#task.id }, 'defect: a redrive ended')
      await this.#finish('failed', new Problem('internal_error', 'This is a defect of the gateway.'))
    } finally {
      clearInterval(this.#beats)
    }
  }

  async #work(): Promise<void> {
    let attempts = 0
    while (await this.#renewOwnership()) {
      const { stop, total, moved, max = total } = this.#task
      if (stop) return this.#finish('stopped')
      if (moved >= Math.min(total, max)) return this.#finish('done')
      let isThrough = false
      let problem: Problem | undefined
      const before = moved
      try {
        isThrough = await this.#sweepOnce()
      } catch (error) {
        if (!(error instanceof Problem)) throw error
        problem = error
      }
      this.#task = this.task
      this.#sweep = undefined
      if (this.#isLost) continue
      if (isThrough) return this.#finish('done')
      if (this.#isReleased || !problem) continue
      if (endsRedrive(problem.code)) return this.#finish('failed', problem)
      this.#note(problem)
      attempts = this.#task.moved > before ? 1 : attempts + 1
      await this.#sleep(waitAfter(attempts, SWEEP_BACKOFF))
    }
  }

  /** One sweep over the queue, for the rest of the work. Messages that stayed at the last sweep are looked at again. */
  async #sweepOnce(): Promise<boolean> {
    const { vhosts, config, metrics } = this.#services
    const { queue, total, moved, max, rate, dry_run: dryRun, rights } = this.#task
    const vhost = await vhosts.get(this.#task.vhost)
    const rules = { request: this.#task, rights: Rights.read(rights), username: vhosts.username }
    const letGo = vhost.hold()
    try {
      const { last_error: _, ...rest } = this.#task
      this.#task = rest
      this.#sweep = new Sweep({
        vhost,
        queue,
        look: total - moved,
        max: (max ?? total) - moved,
        dryRun,
        window: rate === undefined ? Number.POSITIVE_INFINITY : Math.ceil(rate / 2),
        rateLimit: this.#rateLimit,
        longest: longestLease(config),
        decide: (delivery) => decide(delivery, rules),
        onMoved: () => metrics.redriven('moved'),
      })
      return await this.#sweep.run()
    } finally {
      letGo()
    }
  }

  /** Whether this instance still owns the redrive: tries until it knows. */
  async #renewOwnership(): Promise<boolean> {
    for (;;) {
      if (this.#isLost) return false
      try {
        if (!this.#isReleased) return await this.#save()
        const { instance: _, ...released } = this.#task
        this.#task = released
        await this.#save()
        return false
      } catch (error) {
        if (this.#isReleased) return false // another instance takes over when it sees no change
        this.#note(error)
        await this.#sleep(HEARTBEAT_TICK_MS)
      }
    }
  }

  async #finish(state: RedriveState, problem?: Problem): Promise<void> {
    clearInterval(this.#beats)
    const { stop: _, ...task } = this.#task
    const ended_at = timestamp()
    this.#task = { ...task, state, rights: [], ended_at, ...(problem && { last_error: errorText(problem) }) }
    const { metrics, log } = this.#services
    if (task.skipped > 0) metrics.redriven('skipped', task.skipped)
    if (task.failed > 0) metrics.redriven('failed', task.failed)
    const { id, vhost, queue, moved, skipped, failed } = this.#task
    log.info({ redrive: id, vhost, queue, state, moved, skipped, failed, reason: problem?.message }, 'redrive ended')
    while (!this.#isLost) {
      try {
        await this.#save()
        return
      } catch {
        if (this.#isReleased) return
        await this.#sleep(HEARTBEAT_TICK_MS)
      }
    }
  }

  #heartbeat(): void {
    const silent = now() - this.#savedAt
    if (silent > OWNERSHIP_MS) this.#sweep?.interrupt()
    if (this.#saving || (silent < HEARTBEAT_MS && this.#saved === progressKey(this.task))) return
    this.#saving = true
    this.#save()
      .catch((error) => this.#note(error))
      .finally(() => {
        this.#saving = false
      })
  }

  /**
   * Tells the others the progress.
   * @returns whether this instance still owned it
   * @throws Problem if that is unknown
   */
  async #save(): Promise<boolean> {
    const { definitions, vhosts } = this.#services
    for (;;) {
      const current = definitions.get<RedriveTask>(REDRIVE_KIND, this.#task.id)
      if (current?.value.instance !== vhosts.instance || current.value.state !== 'running') {
        this.#isLost = true
        this.#interrupt()
        return false
      }
      if (current.value.stop && this.#task.state === 'running') this.#task = { ...this.#task, stop: true }
      const task = { ...this.task, updated_at: timestamp() }
      const at = now()
      if (await definitions.put(REDRIVE_KIND, task.id, task, { expected: current.revision })) {
        this.#savedAt = at
        this.#saved = progressKey(task)
        return true
      }
    }
  }

  #note(error: unknown): void {
    this.#task = { ...this.#task, last_error: errorText(error) }
  }

  #interrupt(): void {
    this.#sweep?.interrupt()
    this.#pause.end()
  }

  async #sleep(milliseconds: number): Promise<void> {
    if (this.#isLost || this.#isReleased) return
    await this.#pause.take(milliseconds)
  }
}

const progressKey = ({ moved, matched, skipped, failed, last_error }: RedriveTask): string =>
  [moved, matched, skipped, failed, last_error].join(' ')

const MAX_TEXT = 500
const errorText = (error: unknown): string =>
  (error instanceof Problem ? `${error.code}: ${error.message}` : String(error)).slice(0, MAX_TEXT)
