// How long to wait before a message is tried again: longer each time, up to a limit, and not for all at the same moment.

/** In milliseconds. */
export interface Backoff {
  readonly initial: number
  /** Each wait is so many times the one before. */
  readonly factor: number
  readonly max: number
  /** Share of the wait by which it may be shorter or longer, from 0 to 1. */
  readonly jitter: number
}

/**
 * Milliseconds to wait after so many attempts (1 or more), never more than `max`.
 * @param random from 0 to 1
 */
export function waitAfter(attempts: number, { initial, factor, max, jitter }: Backoff, random = Math.random()): number {
  const plain = Math.min(max, initial * factor ** Math.max(0, attempts - 1))
  return Math.round(Math.min(max, plain * (1 + jitter * (2 * random - 1))))
}
