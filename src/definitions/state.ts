// The state that the log's records make: the same records in the same order make the same state at every instance, so that
// RabbitMQ's order is all that instances need to agree. Knows nothing about how the log is kept.

import { FifoMap } from 'toad-cache'
import { now } from '../lib/clock.js'

export interface Definition<T = unknown> {
  readonly kind: string
  readonly key: string
  readonly value: T
  /** Different after every change, so that a change can depend on the last one. */
  readonly revision: number
}

interface Identified {
  /** Names the append that wrote it. */
  id: string
}

/** A change. It is in force if the definition has the expected revision: absent means any, 0 means that it must not exist. */
export type Change = Identified & { kind: string; key: string; expected?: number | undefined } & (
    | { type: 'put'; value: unknown }
    | { type: 'delete' }
  )

export type LogRecord =
  | Change
  /** A marker: shows the instance that wrote it how far it has read. */
  | (Identified & { type: 'mark' })
  /** A broadcast of an instance, valid until its next one on the topic. */
  | (Identified & { type: 'say'; instance: string; topic: string; value: unknown })
  /** All definitions after the record at that offset. Earlier records need not be kept. */
  | (Identified & { type: 'snapshot'; at: number; entries: Definition[] })

export interface Broadcast {
  instance: string
  value: unknown
  /** When this instance read it, on its monotonic clock. */
  at: number
}

/** The offset of a snapshot that was made from memory after the log was lost. */
export const AT_RECOVERY = -1

/** The key of a definition that has a name in a vhost. */
export const definitionKey = (vhost: string, name: string): string => `${vhost}\0${name}`
/** The vhost and the name in such a key. */
export const definitionName = (key: string): { vhost: string; name: string } => {
  const [vhost, name] = key.split('\0') as [string, string]
  return { vhost, name }
}

const entryKey = (kind: string, key: string): string => `${kind}\0${key}`
const MAX_BROADCASTERS = 10_000

/** The definitions and broadcasts after the records applied so far. */
export class DefinitionsState {
  readonly #entries = new Map<string, Definition>()
  readonly #broadcasts = new Map<string, FifoMap<Broadcast>>()
  /** Records before the first usable snapshot, if the log does not reach back to its beginning. */
  #early: { offset: number; record: LogRecord }[] | undefined
  #first: number | undefined
  #offset = -1
  #bytes = 0
  #size = 0

  /** The offset of the last record. */
  get offset(): number {
    return this.#offset
  }

  /** Bytes of log since the last snapshot, or the beginning. */
  get bytesSinceSnapshot(): number {
    return this.#bytes
  }

  /** About how many bytes a snapshot would have. */
  get size(): number {
    return this.#size
  }

  get<T>(kind: string, key: string): Definition<T> | undefined {
    return this.#entries.get(entryKey(kind, key)) as Definition<T> | undefined
  }

  list<T>(kind: string): Definition<T>[] {
    return [...this.#entries.values()].filter((entry) => entry.kind === kind) as Definition<T>[]
  }

  all(): Definition[] {
    return [...this.#entries.values()]
  }

  /** The last broadcast of one instance. */
  lastBroadcast(topic: string, instance: string): Broadcast | undefined {
    return this.#broadcasts.get(topic)?.get(instance)
  }

  /** The last broadcast of each instance. */
  lastBroadcasts(topic: string): Broadcast[] {
    const broadcasts = this.#broadcasts.get(topic)
    return [...((broadcasts?.keys() ?? []) as Iterable<string>)].flatMap((instance) => broadcasts?.get(instance) ?? [])
  }

  /**
   * Applies the next record.
   * @param bytes its size in the log
   * @returns for a change, whether it is in force
   */
  apply(offset: number, record: LogRecord, bytes: number): boolean {
    this.#offset = offset
    this.#bytes += bytes
    if (this.#first === undefined) {
      this.#first = offset
      if (offset > 0) this.#early = []
    }
    if (record.type === 'snapshot') {
      this.#bytes = bytes
      this.#restore(record)
      return true
    }
    if (this.#early && record.type !== 'say') this.#early.push({ offset, record })
    return this.#fold(offset, record)
  }

  /** A snapshot tells more than is known only if the log does not reach back to its beginning. */
  #restore({ at, entries }: LogRecord & { type: 'snapshot' }): void {
    if (at === AT_RECOVERY) {
      for (const entry of entries) if (!this.get(entry.kind, entry.key)) this.#set(entry)
      return
    }
    if (!this.#early || at < this.#first! - 1) return
    const later = this.#early.filter(({ offset }) => offset > at)
    this.#early = undefined
    this.#entries.clear()
    this.#size = 0
    for (const entry of entries) this.#set(entry)
    for (const { offset, record } of later) this.#fold(offset, record)
  }

  #fold(offset: number, record: LogRecord): boolean {
    switch (record.type) {
      case 'put': {
        const { kind, key, value } = record
        if (!this.#isExpected(record)) return false
        this.#set({ kind, key, value, revision: offset + 1 })
        return true
      }
      case 'delete': {
        const old = this.#entries.get(entryKey(record.kind, record.key))
        if (!old || !this.#isExpected(record)) return false
        this.#entries.delete(entryKey(old.kind, old.key))
        this.#size -= sizeOf(old)
        return true
      }
      case 'say':
        this.#hear(record)
        return true
      default:
        return true
    }
  }

  #isExpected({ kind, key, expected }: Change): boolean {
    return expected === undefined || (this.get(kind, key)?.revision ?? 0) === expected
  }

  #set(entry: Definition): void {
    const id = entryKey(entry.kind, entry.key)
    const old = this.#entries.get(id)
    if (old) this.#size -= sizeOf(old)
    this.#entries.set(id, entry)
    this.#size += sizeOf(entry)
  }

  #hear({ instance, topic, value }: LogRecord & { type: 'say' }): void {
    const broadcasts = this.#broadcasts.get(topic) ?? new FifoMap<Broadcast>(MAX_BROADCASTERS)
    this.#broadcasts.set(topic, broadcasts)
    broadcasts.delete(instance) // the latest goes last
    broadcasts.set(instance, { instance, value, at: now() })
  }
}

const sizeOf = (entry: Definition): number => Buffer.byteLength(JSON.stringify(entry))
