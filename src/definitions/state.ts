// What the log says, folded: the same records in the same order make the same state at every instance, so that RabbitMQ, which
// puts them in order, is all that instances need to agree. Knows nothing of how the log is kept.

import { FifoMap } from 'toad-cache'

export interface Definition<T = unknown> {
  readonly kind: string
  readonly key: string
  readonly value: T
  /** Another one after every change: what a change that depends on the last one names. */
  readonly revision: number
}

interface Identified {
  /** Of the one append that wrote it. */
  id: string
}

/** A change, in force where the entry has the revision that it expects: absent, any; 0, none. */
export type Change = Identified & { kind: string; key: string; expected?: number | undefined } & (
    | { type: 'put'; value: unknown }
    | { type: 'delete' }
  )

export type LogRecord =
  | Change
  /** Nothing: shows who wrote it how far it has read. */
  | (Identified & { type: 'mark' })
  /** An instance's word on something, that holds until its next one. */
  | (Identified & { type: 'say'; instance: string; topic: string; value: unknown })
  /** Everything, as it was after the record with that offset. What stands before it need not be kept. */
  | (Identified & { type: 'snapshot'; at: number; entries: Definition[] })

export interface Broadcast {
  instance: string
  value: unknown
  /** Milliseconds since 1970, by the clock of the instance that reads it. */
  at: number
}

/** Where a snapshot stands that was made from memory after the log was lost. */
export const AT_RECOVERY = -1

/** The key of what has a name in a vhost. */
export const definitionKey = (vhost: string, name: string): string => `${vhost}\0${name}`
/** The two parts of such a key. */
export const definitionName = (key: string): { vhost: string; name: string } => {
  const [vhost, name] = key.split('\0') as [string, string]
  return { vhost, name }
}

const entryKey = (kind: string, key: string): string => `${kind}\0${key}`
const MAX_BROADCASTERS = 10_000

export class DefinitionsState {
  readonly #entries = new Map<string, Definition>()
  readonly #broadcasts = new Map<string, FifoMap<Broadcast>>()
  /** Records from before the first usable snapshot, where the log does not reach back to its beginning. */
  #early: { offset: number; record: LogRecord }[] | undefined
  #first: number | undefined
  #offset = -1
  #bytes = 0
  #size = 0

  /** Of the last record. */
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

  /** The last broadcast of each instance. */
  lastBroadcasts(topic: string): Broadcast[] {
    const broadcasts = this.#broadcasts.get(topic)
    return [...((broadcasts?.keys() ?? []) as Iterable<string>)].flatMap((instance) => broadcasts?.get(instance) ?? [])
  }

  /**
   * Takes the next record in.
   * @param bytes that it has in the log
   * @returns of a change, whether it is in force
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

  /** Only where the log does not reach back to its beginning does a snapshot tell more than is known. */
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
    broadcasts.set(instance, { instance, value, at: Date.now() })
  }
}

const sizeOf = (entry: Definition): number => Buffer.byteLength(JSON.stringify(entry))
