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
/** Headers that hold no credentials. Nobody can list the names of those that do. */
const HARMLESS =
  /^(accept(-charset|-encoding|-language)?|cache-control|from|prefer|priority|user-agent|x-(environment|region|source|stage|team|tenant))$/i
/** A part of a path that a person chose, such as `hooks` or `v2`. Services put tokens into paths, which look otherwise. */
const PLAIN_WORD = /^(v\d{1,3}|[a-z]{0,20}([._-][a-z]{1,20})*)$/

/** Whether a text has the mask in it that is shown in place of secrets. */
export const isMasked = (text: string): boolean => text.includes(MASK)

/** Custom headers for display: values are masked, but those of names that are known to be harmless. */
export function shownHeaders(headers: Subscription['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, HARMLESS.test(name) ? value : MASK]))
}

/** A URL for display: without the values of its query, and with a mask for each part of its path that is not a plain word. */
export function shownUrl(text: string): string {
  const { origin, pathname, search } = new URL(text)
  const path = pathname.split('/').map((part) => (PLAIN_WORD.test(part) ? part : MASK))
  const query = search
    .slice(1)
    .split('&')
    .map((pair) => (pair.includes('=') ? `${pair.slice(0, pair.indexOf('='))}=${MASK}` : MASK))
  const shown = origin + path.join('/') + (search === '' ? '' : `?${query.join('&')}`)
  return new URL(text).href === shown ? text : shown
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
