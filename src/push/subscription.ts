// What a subscription is, as it is kept for all instances, and as it is shown: never with what is secret.

import { type Backoff, waitAfter } from '../lib/backoff.js'

/** Of its definition, among others. */
export const SUBSCRIPTION_KIND = 'subscription'

export type PushFormat = 'raw' | 'json' | 'cloudevents'
export type GiveUp = 'dead_letter' | 'pause' | 'discard'

/** All times in milliseconds. */
export interface Subscription {
  readonly queue: string
  readonly url: string
  /** One, or two while one takes the place of the other. */
  readonly secrets: readonly string[]
  readonly format: PushFormat
  readonly headers: Readonly<Record<string, string>>
  /** The most deliveries at once, with those that were accepted and are not settled, on each instance. */
  readonly concurrency: number
  /** For the whole exchange. */
  readonly timeout: number
  /** How long an accepted message's lease lasts. */
  readonly lease: number
  readonly retry: { readonly max_attempts: number; readonly backoff: Backoff }
  readonly giveUp: GiveUp
  readonly paused: boolean
  /** Why the gateway itself paused it. */
  readonly reason?: string | undefined
}

const MASK = '********'
const CREDENTIAL = /authorization|cookie|key|token|secret|password|signature|credential/i

/** Whether that is what is shown in place of a value, and no value. */
export const isMask = (value: string): boolean => value === MASK

/** Custom headers as they are shown: those that look like credentials without their values. */
export function shownHeaders(headers: Subscription['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, CREDENTIAL.test(name) ? MASK : value]))
}

/** How many milliseconds a message waits after a number of failed attempts. */
export const backoffAfter = (attempts: number, { retry }: Subscription): number => waitAfter(attempts, retry.backoff)

/** Whether two definitions are the same. */
export const areAlike = (a: Subscription, b: Subscription): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b))

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const entries = Object.entries(value).filter(([, member]) => member !== undefined)
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, member]) => [name, sorted(member)]))
}
