// How long to wait before the next attempt: longer each time, up to a limit, and not at the same moment for everybody.

/** Times in milliseconds. */
export interface Backoff {
  /** The wait after the first attempt. */
  readonly initial: number
  /** Each wait is this many times the one before. */
  readonly factor: number
  /** No wait is longer. */
  readonly max: number
  /** The share, from 0 to 1, by which a wait may be shorter or longer. */
  readonly jitter: number
}

/**
 * Milliseconds to wait after the given number of attempts (1 or more), never more than `max`.
 * @param random from 0 to 1
 */
export function waitAfter(attempts: number, { initial, factor, max, jitter }: Backoff, random = Math.random()): number {
  const plain = Math.min(max, initial * factor ** Math.max(0, attempts - 1))
  const wait = plain * (1 + jitter * (2 * random - 1))
  // What would be longer than the limit is as much shorter, so that waits at the limit spread out too.
  return Math.round(wait > max ? Math.max(0, 2 * max - wait) : wait)
}
