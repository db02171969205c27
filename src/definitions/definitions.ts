// Definitions (retry policies, subscriptions, redrives): the same at every instance, and kept in RabbitMQ alone, in a log that
// every instance reads and may append to (docs/decisions/0010-definitions-in-a-log.md).

import { randomUUID } from 'node:crypto'
import type { Vhosts } from '../amqp/vhosts.js'
import { within } from '../amqp/wire/deadline.js'
import type { Config } from '../config/index.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { Pause } from '../lib/pause.js'
import { Problem } from '../problems.js'
import { DefinitionsLog } from './log.js'
import { AT_RECOVERY, type Broadcast, type Change, type Definition, DefinitionsState, type LogRecord } from './state.js'

export { type Broadcast, type Definition, definitionKey, definitionName } from './state.js'

const MiB = 1024 ** 2
/** The size of all definitions. A snapshot is one message, and two of them fit into the log with the records in between. */
const MAX_DEFINITIONS_BYTES = 4 * MiB
const SNAPSHOT_AFTER_BYTES = MiB
/** Between two looks for the log if it does not exist or cannot be read. */
const LOG_POLL_INTERVAL_MS = 1000
/** Between looks if the gateway's user may not read the log: each look leaves a line in RabbitMQ's own log. */
const REFUSED_INTERVAL_MS = 60_000

/** Called with a changed definition, or undefined if it was deleted. */
export type Listener = (key: string, entry: Definition | undefined) => void

/** The definitions of all instances. */
export class Definitions {
  readonly #config: Config
  readonly #log: Log
  readonly #stream: DefinitionsLog
  readonly #instance: string
  readonly #listeners = new Map<string, Set<Listener>>()
  /** Appends of this instance that it has not read back: called with their revision, or undefined if not in force. */
  readonly #pending = new Map<string, (revision: number | undefined) => void>()
  #state = new DefinitionsState()
  #known = false
  /** Resolves when the log has been read up to its end at the start of this reading; another promise for each reading. */
  #following = promise()
  #isFollowing = false
  #closed = false
  readonly #rest = new Pause()

  constructor({ config, log, vhosts }: { config: Config; log: Log; vhosts: Vhosts }) {
    this.#config = config
    this.#log = log
    this.#stream = new DefinitionsLog(vhosts)
    this.#instance = vhosts.instance
    void this.#run()
  }

  /** Whether the definitions are known: false until the log was read, or found not to exist. */
  get known(): boolean {
    return this.#known
  }

  /** Whether the log is being read, so that the known definitions are the ones in force. */
  get following(): boolean {
    return this.#isFollowing
  }

  /** A definition as it was when the log was last read: the current one, unless RabbitMQ is unreachable. */
  get<T>(kind: string, key: string): Definition<T> | undefined {
    return this.#state.get<T>(kind, key)
  }

  /** The definitions of a kind, in the order in which they were first put, which is the same at every instance. */
  list<T>(kind: string): Definition<T>[] {
    return this.#state.list<T>(kind)
  }

  /**
   * Calls `listener` with every definition of a kind, and again at every change, by this instance or another.
   * @returns a function that stops it
   */
  watch(kind: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(kind) ?? new Set()
    this.#listeners.set(kind, listeners.add(listener))
    for (const entry of this.#state.list(kind)) listener(entry.key, entry)
    return () => listeners.delete(listener)
  }

  /**
   * Puts a definition. Resolves when RabbitMQ has confirmed it and it is in force here. The other instances follow in moments.
   * @param options.expected the revision that the definition must have (0: it must not exist); without it the last writer wins
   * @returns undefined if the definition had another revision: nothing was changed
   * @throws Problem broker_unavailable, broker_blocked, access_refused, overloaded: not defined; broker_timeout: unknown
   */
  async put<T>(
    kind: string,
    key: string,
    value: T,
    { expected }: { expected?: number } = {},
  ): Promise<Definition<T> | undefined> {
    if (this.#state.size > MAX_DEFINITIONS_BYTES)
      throw new Problem('overloaded', 'The definitions have reached their total size. Delete some that are not needed.')
    const revision = await this.#change({ id: randomUUID(), type: 'put', kind, key, value, expected })
    return revision === undefined ? undefined : { kind, key, value, revision }
  }

  /** Deletes a definition, and resolves like `put()`. @returns whether it existed, and had the expected revision */
  async delete(kind: string, key: string, { expected }: { expected?: number } = {}): Promise<boolean> {
    return (await this.#change({ id: randomUUID(), type: 'delete', kind, key, expected })) !== undefined
  }

  /**
   * Creates the log if there is none, and waits until it has been read, at most BROKER_TIMEOUT.
   * @throws Problem broker_unavailable, broker_blocked, broker_timeout, access_refused
   */
  async open(): Promise<void> {
    if (!this.#isFollowing) {
      await this.#stream.create()
      this.#rest.end()
    }
    await within(this.#config.BROKER_TIMEOUT, 'reading the definitions', this.#following.resolved)
  }

  /**
   * Tells all instances a value that replaces this instance's last one on the topic, and is not kept. Does nothing if there is
   * no log.
   */
  async broadcast(topic: string, value: unknown): Promise<void> {
    if (!this.#isFollowing) return
    const id = randomUUID()
    // Pending like a change: broadcasts fill the log too, and may make a snapshot due.
    this.#pending.set(id, () => this.#pending.delete(id))
    try {
      await this.#stream.append({ id, type: 'say', instance: this.#instance, topic, value })
    } catch (error) {
      this.#pending.delete(id)
      throw error
    }
  }

  /** The last broadcast of one instance on a topic, whatever its age. */
  lastBroadcast(topic: string, instance: string): Broadcast | undefined {
    return this.#state.lastBroadcast(topic, instance)
  }

  /** The last broadcast of each other instance on a topic. @param age the oldest to return, in milliseconds */
  lastBroadcasts(topic: string, age: number): Broadcast[] {
    const oldest = now() - age
    return this.#state.lastBroadcasts(topic).filter(({ instance, at }) => instance !== this.#instance && at >= oldest)
  }

  /** Stops reading. */
  close(): void {
    this.#closed = true
    this.#rest.end()
    this.#stream.close()
  }

  /** @returns the revision it made; undefined if it is not in force */
  async #change(change: Change): Promise<number | undefined> {
    const { BROKER_TIMEOUT } = this.#config
    await this.open()
    const read = new Promise<number | undefined>((resolve) => this.#pending.set(change.id, resolve))
    try {
      await this.#stream.append(change)
      return await within(BROKER_TIMEOUT, 'a definition', read)
    } finally {
      this.#pending.delete(change.id)
    }
  }

  /** Reads the log while it exists, and looks for it while it does not. */
  async #run(): Promise<void> {
    while (!this.#closed) {
      let pause = LOG_POLL_INTERVAL_MS
      try {
        const marker = await this.#writeMarker()
        if (marker) await this.#follow(marker)
      } catch (error) {
        if (error instanceof Problem && error.code === 'access_refused') pause = REFUSED_INTERVAL_MS
        this.#log.debug({ err: error }, 'definitions cannot be read')
      }
      if (!this.#closed) await this.#rest.take(pause)
    }
  }

  /** @returns the id of the marker up to which the log has to be read; undefined if there is no log */
  async #writeMarker(): Promise<string | undefined> {
    const marker = await this.#stream.writeMarker()
    if (marker) return marker
    const entries = this.#state.all()
    if (entries.length === 0) {
      this.#known = true
      return undefined
    }
    // RabbitMQ lost the log. 3.10 does so if it crashes a moment after the queue was declared.
    this.#log.error({ entries: entries.length }, 'log of definitions is gone, and is written again from memory')
    await this.#stream.create()
    await this.#stream.append({ id: randomUUID(), type: 'snapshot', at: AT_RECOVERY, entries })
    return this.#stream.writeMarker()
  }

  /** Reads the log. From the marker on, its state is in force. Rejects when the reading ends. */
  async #follow(marker: string): Promise<void> {
    const state = new DefinitionsState()
    try {
      await this.#stream.follow((offset, record, bytes) => {
        const before = state === this.#state && record.type === 'snapshot' ? state.all() : undefined
        const inForce = state.apply(offset, record, bytes)
        if (state !== this.#state) {
          if (record.id === marker) this.#begin(state)
        } else if (before) {
          this.#compare(before, state)
        } else if ('key' in record && inForce) {
          this.#notify(record.kind, record.key, state.get(record.kind, record.key))
        }
        this.#acknowledge(state, record, inForce ? offset + 1 : undefined)
      })
    } finally {
      if (this.#isFollowing) {
        this.#isFollowing = false
        this.#following = promise()
      }
    }
  }

  #begin(state: DefinitionsState): void {
    const before = this.#state.all()
    this.#state = state
    this.#isFollowing = true
    this.#known = true
    this.#compare(before, state)
    this.#following.resolve()
  }

  /** Tells the caller whose append it was. The instance whose record makes a snapshot due writes the snapshot. */
  #acknowledge(state: DefinitionsState, { id }: LogRecord, revision: number | undefined): void {
    const pending = this.#pending.get(id)
    if (!pending) return
    pending(revision)
    if (state.bytesSinceSnapshot <= Math.max(SNAPSHOT_AFTER_BYTES, 2 * state.size)) return
    const snapshot: LogRecord = { id: randomUUID(), type: 'snapshot', at: state.offset, entries: state.all() }
    this.#stream.append(snapshot).catch((error) => this.#log.warn({ err: error }, 'snapshot of the definitions failed'))
  }

  /** Notifies the listeners of every difference. */
  #compare(before: Definition[], state: DefinitionsState): void {
    const old = new Map(before.map((entry) => [`${entry.kind}\0${entry.key}`, entry.revision]))
    for (const { kind, key } of before) if (!state.get(kind, key)) this.#notify(kind, key, undefined)
    for (const entry of state.all()) {
      if (old.get(`${entry.kind}\0${entry.key}`) !== entry.revision) this.#notify(entry.kind, entry.key, entry)
    }
  }

  #notify(kind: string, key: string, entry: Definition | undefined): void {
    for (const listener of this.#listeners.get(kind) ?? []) {
      try {
        listener(key, entry)
      } catch (error) {
        this.#log.error({ err: error, kind, key }, 'defect: a listener failed over a definition')
      }
    }
  }
}

function promise(): { resolved: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined
  const resolved = new Promise<void>((done) => {
    resolve = done
  })
  return { resolved, resolve: () => resolve() }
}
