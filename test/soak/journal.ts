// What producers and workers write down while a storm goes on: every answer, and when it was asked for and had.

export type Outcome = 'confirmed' | 'not_stored' | 'unknown'
export type Verdict = 'ack' | 'requeue' | 'later' | 'reject'
export type SettleResult = 'done' | 'gone' | 'conflict' | 'unknown'

export interface Publish {
  id: string
  queue: string
  outcome: Outcome
  /** When it was asked for. */
  asked: number
}

export interface Delivery {
  id: string
  queue: string
  lease: string
  /** When the receive was asked for; a stream's is when its connection was. */
  asked: number
}

export interface Settle {
  id: string
  lease: string
  verdict: Verdict
  result: SettleResult
  /** When the answer came. */
  answered: number
}

/** A queue that was deleted and declared again, with all that was in it. */
export interface Deletion {
  queue: string
  /** From then on it was there again. */
  until: number
}

export interface Fault {
  at: number
  name: string
}

/** Times are milliseconds of one clock, that of the process which runs the storm. */
export class Journal {
  readonly publishes: Publish[] = []
  readonly deliveries: Delivery[] = []
  readonly settles: Settle[] = []
  readonly faults: Fault[] = []
  readonly deletions: Deletion[] = []
  /** Leases that were held for longer than RabbitMQ waits, and were over by then. */
  takenBack = 0
  /** Messages of which a copy was made, since they were to come later: after a fault there may be two of them. */
  readonly delayed = new Set<string>()
  /** Receives that answered with more than was asked for. */
  overFetched = 0
  /** Answers that nothing explains, such as a 500 or a 400. */
  readonly surprises: string[] = []
  requests = 0
  /** Of requests that were answered, in milliseconds, beyond what they were to wait for on purpose. */
  longestRequest = 0

  answered(from: number, waited: number): void {
    this.requests++
    this.longestRequest = Math.max(this.longestRequest, Date.now() - from - waited)
  }
}
