// The two clocks. Time that passes is measured with `now()`, which nobody can set. Only what is shown, signed, stored, or
// compared with the times of others is wall time. Node's timers follow the first clock.

/** Wall time that is shown for an instant keeps its value although the two clocks are never read at exactly the same moment. */
const TOLERANCE_MS = 50

/** An instant on the monotonic clock, in milliseconds since this process started. It means nothing to another process. */
export const now = (): number => performance.now()

/** The time of day, in milliseconds since 1970. It jumps if somebody sets the clock. */
export const wallTime = (): number => Date.now()

/** What the wall clock shows when the monotonic one shows 0. */
const measure = () => wallTime() - now()
let start = measure()

/** The wall time of an instant, by the present setting of the clock, in milliseconds since 1970. */
export function wallTimeAt(instant: number): number {
  const current = measure()
  // A process that is interrupted between its looks at the two clocks measures something else, but only once.
  const wasSet = Math.abs(current - start) > TOLERANCE_MS && Math.abs(current - measure()) <= TOLERANCE_MS
  if (wasSet) start = current
  return Math.round(start + instant)
}

/** The wall time of an instant, or the present time, as the API writes it (RFC 3339, UTC). */
export const timestamp = (instant = now()): string => new Date(wallTimeAt(instant)).toISOString()
