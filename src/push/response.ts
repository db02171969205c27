// What an endpoint's answer means for the message that it was called with.

/** In milliseconds: no endpoint says that it wants to be left alone for longer. */
const MAX_RETRY_AFTER_MS = 3_600_000

export type ResponseOutcome =
  /** Done. */
  | { kind: 'delivered' }
  /** Taken, to be settled by its lease. */
  | { kind: 'accepted' }
  /** Not now; `rest` in milliseconds, undefined where it did not say how long. */
  | { kind: 'slowed'; rest: number | undefined }
  /** Never again. */
  | { kind: 'gone' }
  | { kind: 'failed'; why: string }

/** @param retryAfter the header of that name */
export function classifyResponse(status: number, retryAfter: string | undefined): ResponseOutcome {
  if (status === 202) return { kind: 'accepted' }
  if (status >= 200 && status < 300) return { kind: 'delivered' }
  const rest = parseRetryAfter(retryAfter)
  if (status === 429 || (status === 503 && rest !== undefined)) return { kind: 'slowed', rest }
  if (status === 410) return { kind: 'gone' }
  const redirected = status >= 300 && status < 400
  return { kind: 'failed', why: `it answered ${status}${redirected ? ', and redirects are not followed' : ''}` }
}

/** Milliseconds that a `retry-after` asks for, in seconds or until a date; undefined where it says nothing of the kind. */
export function parseRetryAfter(text: string | undefined, now = Date.now()): number | undefined {
  if (text === undefined) return undefined
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : /^[A-Z][a-z]{2},/.test(text) ? Date.parse(text) - now : Number.NaN
  return Number.isNaN(wait) ? undefined : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, wait))
}
