// Other clients can put messages into a queue that RabbitMQ cannot deliver: it closes the connection of a client that receives
// them, with the leases of all other queues on it, and the message stays. So such a queue gets connections of its own.
//
// When a shared connection ends over what it carried, nobody tells which queue was the cause. All queues that were being received
// from at that moment are suspects, and their next receives go over connections of their own. A queue whose own connection ends
// while nothing else is received over it is the cause. A suspect returns to the shared connections once it was found empty, or
// once the cause is found. A queue that fails several times in a row is not tried for a while, which grows with each failure.

import { FifoMap } from 'toad-cache'
import { type Backoff, waitAfter } from '../../lib/backoff.js'
import { now } from '../../lib/clock.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import { endedByContent } from '../wire/errors.js'
import type { DeliveryChannel } from './delivery-channel.js'
import { type LeaseConnection, MAX_PAST_EPOCHS, type ReceiveEvents } from './lease-connection.js'

/** Own connections of all queues of a vhost together, and of one queue. */
const MAX_CONNECTIONS = 32
const MAX_CONNECTIONS_PER_QUEUE = 8
const MAX_QUEUES = 1000
/** An own connection that nobody uses is closed after this time. */
const CONNECTION_IDLE_MS = 10_000
/** A queue that was received from without trouble for this long returns to the shared connections, even if it was the cause. */
const PROBATION_MS = 60 * 60_000
/** A queue that nobody receives from is forgotten after this time. */
const FORGET_MS = 24 * 60 * 60_000
/** How many failures in a row keep a queue from being tried for a while. */
const MAX_FAILURES = { ends: 3, hangs: 2 } as const
/** How long it is not tried then. */
const REST: Backoff = { initial: 5000, factor: 2, max: 10 * 60_000, jitter: 0 }
/** If all connections are in use. */
const RETRY_BUSY_SECONDS = 5

/** ends: receiving from it ends the connection. hangs: RabbitMQ answers, but no call about this queue. */
type Failure = keyof typeof MAX_FAILURES

interface SuspectQueue {
  readonly name: string
  /** When it last was a suspect or the cause, on the monotonic clock, as all times here. */
  since: number
  lastReceive: number
  /** What was wrong when it last failed on its own; undefined while it is only a suspect. */
  failure: { kind: Failure; text: string } | undefined
  /** Failures in a row. */
  failures: number
  restUntil: number
}

interface OwnConnection {
  readonly connection: LeaseConnection
  queue: string
  /** The queue's failures when this connection was last taken: receives that fail together count as one failure. */
  failuresBefore: number
  usedAt: number
  /** Receives that wait for their channel. */
  opening: number
}

export interface QuarantineOptions {
  log: Log
  vhost: string
  /** Opens a connection for one queue. */
  open: (events: ReceiveEvents) => LeaseConnection
  /** Whether RabbitMQ answers at all. Never rejects. */
  brokerAnswers: () => Promise<boolean>
}

/** The queues of a vhost that are received from over connections of their own. */
export class Quarantine {
  readonly #options: QuarantineOptions
  readonly #queues = new Map<string, SuspectQueue>()
  readonly #connections = new Set<OwnConnection>()
  readonly #pastEpochs = new FifoMap<true>(MAX_PAST_EPOCHS)
  /** When a cause was last found. */
  #causeFoundAt = 0

  constructor(options: QuarantineOptions) {
    this.#options = options
  }

  /** The own connections of all queues. */
  get connections(): LeaseConnection[] {
    return [...this.#connections].map(({ connection }) => connection)
  }

  /** How many queues have connections of their own, and how many of them are not tried at the moment. */
  get counts(): { separate: number; resting: number } {
    const time = now()
    const resting = [...this.#queues.values()].filter(({ restUntil }) => restUntil > time).length
    return { separate: this.#queues.size - resting, resting }
  }

  /** The epochs of own connections that are closed. */
  get pastEpochs(): string[] {
    return [...(this.#pastEpochs.keys() as Iterable<string>)]
  }

  /** Whether the epoch was one of an own connection. */
  knows(epoch: string): boolean {
    return this.#pastEpochs.get(epoch) === true || this.connections.some((connection) => connection.knows(epoch))
  }

  /** Whether the queue is received from over connections of its own. */
  has(queue: string): boolean {
    return this.#queues.has(queue)
  }

  /** @throws Problem queue_quarantined: the queue is not tried at the moment */
  admit(queue: string): void {
    const suspect = this.#queues.get(queue)
    if (suspect && suspect.restUntil > now()) throw quarantined(suspect)
  }

  /**
   * A channel for the next receive of the queue, and its connection; undefined: it is for a shared connection.
   * @throws Problem queue_quarantined, and the codes of `LeaseConnection.takeChannel()`
   */
  async takeChannel(queue: string): Promise<{ connection: LeaseConnection; channel: DeliveryChannel } | undefined> {
    const suspect = this.#queues.get(queue)
    if (!suspect) return undefined
    this.admit(queue)
    const own = this.#pick(suspect)
    Object.assign(own, { queue, failuresBefore: suspect.failures, usedAt: now() })
    own.opening++
    try {
      return { connection: own.connection, channel: await own.connection.takeChannel() }
    } finally {
      own.opening--
    }
  }

  /** What the shared connections report to. */
  readonly sharedEvents: ReceiveEvents = {
    onReceived: () => undefined,
    onSilent: (queue) => void this.hung(queue),
    onDown: (error, queues) => {
      if (endedByContent(error)) this.#suspectAll(queues, error)
    },
  }

  /** RabbitMQ did not answer a call about the queue. It counts if RabbitMQ answers otherwise. Never rejects. */
  async hung(queue: string, own?: OwnConnection): Promise<void> {
    if (!(await this.#options.brokerAnswers())) return
    const suspect = this.#queues.get(queue)
    if (suspect && own?.failuresBefore !== suspect.failures) return
    this.#fail(suspect ?? this.#add(queue), { kind: 'hangs', text: 'no answer' })
  }

  /** The queue was purged, or deleted: it is tried again at once. */
  emptied(queue: string): void {
    const suspect = this.#queues.get(queue)
    if (suspect) Object.assign(suspect, { since: now(), failure: undefined, failures: 0, restUntil: 0 })
  }

  /** Closes connections that nobody uses, and forgets queues that nobody receives from. To be called every second or so. */
  closeIdle(): void {
    const time = now()
    for (const own of this.#connections) {
      if (busyOf(own) === 0 && time - own.usedAt > CONNECTION_IDLE_MS) this.#close(own)
    }
    for (const { name, since, lastReceive } of this.#queues.values()) {
      if (time - Math.max(since, lastReceive) > FORGET_MS) this.#queues.delete(name)
    }
  }

  /** Closes all connections, which gives back what they hold. */
  async close(): Promise<void> {
    await Promise.all(this.connections.map((connection) => connection.close()))
  }

  /** A connection that holds nothing, so that no lease is lost with it, as long as there may be another one. */
  #pick(suspect: SuspectQueue): OwnConnection {
    const usable = [...this.#connections].filter(({ connection: { connection } }) => connection.state !== 'down')
    const idle = usable.find((own) => busyOf(own) === 0)
    if (idle) return idle
    const mine = usable.filter(({ queue }) => queue === suspect.name)
    if (this.#connections.size < MAX_CONNECTIONS && mine.length < MAX_CONNECTIONS_PER_QUEUE) return this.#open()
    // Suspects may share. If that connection ends, they are all suspects again.
    const others = suspect.failure ? [] : usable.filter(({ queue }) => this.#queues.get(queue)?.failure === undefined)
    const [best] = [...(mine.length > 0 ? mine : others)].sort((a, b) => busyOf(a) - busyOf(b))
    if (best) return best
    const detail = `All connections for quarantined queues are in use, and '${suspect.name}' may not use another one.`
    throw new Problem('queue_quarantined', detail, { retryAfter: RETRY_BUSY_SECONDS })
  }

  #open(): OwnConnection {
    const events: ReceiveEvents = {
      onReceived: (queue, isEmpty) => this.#received(queue, isEmpty),
      onSilent: (queue) => void this.hung(queue, own),
      onDown: (error, queues) => this.#ownDown(own, error, queues),
    }
    const own: OwnConnection = {
      connection: this.#options.open(events),
      queue: '',
      failuresBefore: 0,
      usedAt: now(),
      opening: 0,
    }
    this.#connections.add(own)
    return own
  }

  #close(own: OwnConnection): void {
    this.#remove(own)
    void own.connection.close()
  }

  #remove(own: OwnConnection): void {
    this.#connections.delete(own)
    for (const epoch of own.connection.epochs) this.#pastEpochs.set(epoch, true)
  }

  #ownDown(own: OwnConnection, error: Error, queues: string[]): void {
    this.#remove(own)
    void own.connection.connection.close() // so that it does not connect again
    if (!endedByContent(error)) return
    const [queue] = queues
    const suspect = queue === undefined ? undefined : this.#queues.get(queue)
    if (!suspect || queues.length > 1) this.#suspectAll(queues, error)
    else if (own.failuresBefore === suspect.failures) this.#fail(suspect, { kind: 'ends', text: endOf(error) })
  }

  #suspectAll(queues: string[], error: Error): void {
    if (queues.length === 0) return
    for (const queue of queues) (this.#queues.get(queue) ?? this.#add(queue)).since = now()
    const { log, vhost } = this.#options
    const event = 'connection ended while queues were received from: they get connections of their own'
    log.warn({ vhost, queues: queues.slice(0, 20), count: queues.length, reason: endOf(error) }, event)
  }

  #add(name: string): SuspectQueue {
    const [oldest] = this.#queues.keys()
    if (oldest !== undefined && this.#queues.size >= MAX_QUEUES) this.#queues.delete(oldest)
    const suspect = { name, since: now(), lastReceive: 0, failure: undefined, failures: 0, restUntil: 0 }
    this.#queues.set(name, suspect)
    return suspect
  }

  #fail(suspect: SuspectQueue, failure: { kind: Failure; text: string }): void {
    const time = now()
    const { log, vhost } = this.#options
    const { name: queue } = suspect
    const isNews = suspect.failure === undefined
    Object.assign(suspect, { since: time, failure, failures: suspect.failures + 1 })
    this.#causeFoundAt = time
    const beyond = suspect.failures - MAX_FAILURES[failure.kind] + 1
    if (beyond > 0) suspect.restUntil = time + waitAfter(beyond, REST)
    if (beyond === 1) log.warn({ vhost, queue, reason: failure.text }, 'queue quarantined: it is not tried for a while')
    else if (isNews) log.warn({ vhost, queue, reason: failure.text }, 'queue is received from over connections of its own')
  }

  #received(queue: string, isEmpty: boolean): void {
    const suspect = this.#queues.get(queue)
    if (!suspect) return
    const time = now()
    suspect.lastReceive = time
    suspect.failures = 0
    const isCleared = suspect.failure === undefined && (isEmpty || this.#causeFoundAt > suspect.since)
    if (!isCleared && time - suspect.since < PROBATION_MS) return
    this.#queues.delete(queue)
    this.#options.log.info({ vhost: this.#options.vhost, queue }, 'queue returned to the shared connections')
  }
}

const busyOf = ({ connection, opening }: OwnConnection): number => connection.busy + opening

/** Why a connection ended, in short. */
const endOf = (error: Error & { code?: unknown }): string =>
  typeof error.code === 'number' ? `reply code ${error.code}` : (error.message.split('\n')[0] ?? '')

function quarantined({ name, failure, failures, restUntil }: SuspectQueue): Problem {
  const seconds = Math.max(1, Math.ceil((restUntil - now()) / 1000))
  const detail =
    failure?.kind === 'hangs'
      ? `RabbitMQ answers, but no call about the queue '${name}': the queue hangs. Delete the queue, or restart its node.`
      : `The last ${failures} receives from the queue '${name}' each ended their connection to RabbitMQ (${failure?.text}). RabbitMQ cannot deliver one of its messages. Look at them with another client, such as one for AMQP 1.0, and purge or delete the queue, or move its messages with a shovel.`
  return new Problem('queue_quarantined', `${detail} The gateway tries it again in ${seconds} s.`, { retryAfter: seconds })
}
