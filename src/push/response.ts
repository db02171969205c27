// What an endpoint's response means for the delivered message.

import { wallTime } from '../lib/clock.js'

/** The longest pause that an endpoint can ask for. */
const MAX_RETRY_AFTER_MS = 3_600_000

export type ResponseOutcome =
  /** Acknowledged. */
  | { kind: 'delivered' }
  /** Accepted: the endpoint settles it by its lease. */
  | { kind: 'accepted' }
  /** The endpoint asks for a pause of `rest` milliseconds; undefined if it did not say how long. */
  | { kind: 'slowed'; rest: number | undefined }
  /** The endpoint no longer exists. */
  | { kind: 'gone' }
  | { kind: 'failed'; why: string }

/** The meaning of a status. @param retryAfter the header of that name */
export function classifyResponse(status: number, retryAfter: string | undefined): ResponseOutcome {
  if (status === 202) return { kind: 'accepted' }
  if (status >= 200 && status < 300) return { kind: 'delivered' }
  const rest = parseRetryAfter(retryAfter)
  if (status === 429 || (status === 503 && rest !== undefined)) return { kind: 'slowed', rest }
  if (status === 410) return { kind: 'gone' }
  const redirected = status >= 300 && status < 400
  return { kind: 'failed', why: `it answered ${status}${redirected ? ', and redirects are not followed' : ''}` }
}

/** The milliseconds that a `retry-after` in seconds or with a date asks for; undefined if it has neither. */
export function parseRetryAfter(text: string | undefined, time = wallTime()): number | undefined {
  if (text === undefined) return undefined
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : /^[A-Z][a-z]{2},/.test(text) ? Date.parse(text) - time : Number.NaN
  return Number.isNaN(wait) ? undefined : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, wait))
}
