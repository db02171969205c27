// A subscription, as it is kept for all instances. Its secrets are never shown.

import { type Backoff, waitAfter } from '../lib/backoff.js'

/** The kind of its definition. */
export const SUBSCRIPTION_KIND = 'subscription'

export type PushFormat = 'raw' | 'json' | 'cloudevents'
export type GiveUp = 'dead_letter' | 'pause' | 'discard'

/** All times in milliseconds. */
export interface Subscription {
  readonly queue: string
  readonly url: string
  /** One, or two during a rotation. */
  readonly secrets: readonly string[]
  readonly format: PushFormat
  readonly headers: Readonly<Record<string, string>>
  /** The most deliveries at once on each instance, with accepted messages that are not settled. */
  readonly concurrency: number
  /** How long a delivery may take. */
  readonly timeout: number
  /** How long an accepted message's lease lasts. */
  readonly lease: number
  readonly retry: { readonly max_attempts: number; readonly backoff: Backoff }
  readonly giveUp: GiveUp
  readonly paused: boolean
  /** Why the gateway paused it by itself. */
  readonly reason?: string | undefined
}

const MASK = '********'
const CREDENTIAL = /authorization|cookie|key|token|secret|password|signature|credential/i

/** Whether a value is the mask that is shown in place of a secret one. */
export const isMask = (value: string): boolean => value === MASK

/** Custom headers for display: values that look like credentials are masked. */
export function shownHeaders(headers: Subscription['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, CREDENTIAL.test(name) ? MASK : value]))
}

/** How many milliseconds a message waits after a number of failed attempts. */
export const backoffAfter = (attempts: number, { retry }: Subscription): number => waitAfter(attempts, retry.backoff)

/** Whether two subscriptions are the same. */
export const areAlike = (a: Subscription, b: Subscription): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b))

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const entries = Object.entries(value).filter(([, member]) => member !== undefined)
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, member]) => [name, sorted(member)]))
}
