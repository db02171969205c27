// The record that producers and workers keep during a soak test: every response, and the times of requests and responses.

export type Outcome = 'confirmed' | 'not_stored' | 'unknown'
/** `delay` is a nack with a delay, `reject` a nack without requeue. */
export type Verdict = 'ack' | 'requeue' | 'delay' | 'reject'
export type SettleResult = 'done' | 'gone' | 'conflict' | 'unknown'

export interface Publish {
  id: string
  queue: string
  outcome: Outcome
  /** When the request was sent. */
  requestedAt: number
  /** When the response arrived, or the connection broke. */
  answeredAt: number
}

export interface Delivery {
  id: string
  queue: string
  lease: string
  /** When the request of the receive, or of the stream, was sent. */
  requestedAt: number
}

/** The messages of one answer to a receive, in its order. */
export type Answer = { id: string; redelivered: boolean }[]

export interface Settle {
  id: string
  lease: string
  verdict: Verdict
  result: SettleResult
  /** When the response arrived. */
  answeredAt: number
}

/** A queue that was deleted with its messages, and declared again. */
export interface Deletion {
  queue: string
  /** When it existed again. */
  recreatedAt: number
}

export interface Fault {
  at: number
  name: string
}

/** The record of one run. Times are milliseconds of Date.now() in the process of the soak test. */
export class Journal {
  readonly publishes: Publish[] = []
  readonly deliveries: Delivery[] = []
  readonly answers: Answer[] = []
  readonly settles: Settle[] = []
  readonly faults: Fault[] = []
  readonly deletions: Deletion[] = []
  /** Leases that ended because they were held for longer than RabbitMQ's consumer timeout. */
  takenBack = 0
  /** Messages that were delayed, which the gateway does with a copy: after a fault there may be two of them. */
  readonly delayed = new Set<string>()
  /** The number of messages beyond the `max` of their receives. */
  overFetched = 0
  /** Responses that no fault explains, such as a 500 or a 400. */
  readonly unexpected: string[] = []
  requests = 0
  /** The longest time to a response, without the time that the request asked to wait. */
  longestRequestMs = 0

  /**
   * Counts a request that has its response now.
   * @param from when it was sent
   * @param waited the milliseconds that it asked to wait
   */
  countRequest(from: number, waited: number): void {
    this.requests++
    this.longestRequestMs = Math.max(this.longestRequestMs, Date.now() - from - waited)
  }
}
