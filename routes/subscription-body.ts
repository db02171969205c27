// A subscription as it stands in a body, and as it is shown.

import { isReserved } from '../src/amqp/wire/reserved.js'
import type { Config } from '../src/config/index.js'
import { longestLease } from '../src/config/index.js'
import { formatDuration } from '../src/lib/units.js'
import { nameError } from '../src/messages/properties.js'
import { invalidRequest, Problem } from '../src/problems.js'
import type { AddressPolicy } from '../src/push/address-policy.js'
import { secretError } from '../src/push/signature.js'
import type { SubscriptionStatus } from '../src/push/status.js'
import { type GiveUp, isMask, type PushFormat, type Subscription, shownHeaders } from '../src/push/subscription.js'
import { type BackoffBody, backoffOf, backoffToJson, durationOf } from './params.js'

export interface SubscriptionBody {
  queue: string
  url: string
  secret?: string | string[]
  format?: PushFormat
  headers?: Record<string, string>
  concurrency?: number
  timeout?: string | number
  lease?: string | number
  retry?: { max_attempts?: number; backoff?: BackoffBody }
  give_up?: GiveUp
  paused?: boolean
}

/** What the body says; `secrets` and `paused` undefined where it says nothing. */
export interface RequestedSubscription extends Omit<Subscription, 'secrets' | 'paused'> {
  secrets: readonly string[] | undefined
  paused: boolean | undefined
}

const MAX_CUSTOM_HEADERS = 32
const MAX_HEADERS_SIZE = 4096
/** What says how a message is framed, what it is, or who sent it. */
const RESERVED_HEADERS =
  /^(host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|content-.*|location|traceparent|tracestate|baggage|(webhook|lease|amqp|ce)-.*)$/i

/** @throws Problem invalid_request, access_refused: a queue that the gateway keeps to itself */
export function readSubscription(body: SubscriptionBody, config: Config, addresses: AddressPolicy): RequestedSubscription {
  const detail = nameError(body.queue)
  if (detail) throw invalidRequest('/body/queue', detail)
  if (isReserved(body.queue)) throw new Problem('access_refused', "That queue is the gateway's own.")
  checkUrl(body.url, addresses)
  const { secret, headers = {}, timeout = '15s', lease, retry = {} } = body
  checkCustomHeaders(headers)
  const secrets = secret === undefined ? undefined : [secret].flat()
  secrets?.forEach((one, index) => {
    const wrong = secretError(one)
    if (wrong) throw invalidRequest(Array.isArray(secret) ? `/body/secret/${index}` : '/body/secret', wrong)
  })
  const longest = longestLease(config)
  const time = durationOf(timeout, '/body/timeout', 100, Math.min(600_000, longest))
  return {
    queue: body.queue,
    url: body.url,
    secrets,
    format: body.format ?? 'raw',
    headers,
    concurrency: body.concurrency ?? 10,
    timeout: time,
    lease: lease === undefined ? Math.min(longest, Math.max(30_000, time)) : durationOf(lease, '/body/lease', 1000, longest),
    retry: { max_attempts: retry.max_attempts ?? 10, backoff: backoffOf(retry.backoff, '/body/retry/backoff') },
    giveUp: body.give_up ?? 'pause',
    paused: body.paused,
  }
}

function checkUrl(text: string, addresses: AddressPolicy): void {
  const wrong = (detail: string) => invalidRequest('/body/url', detail)
  if (!URL.canParse(text)) throw wrong('is no URL')
  const url = new URL(text)
  if (!/^https?:$/.test(url.protocol)) throw wrong('has to begin with https:// or http://')
  if (url.username || url.password) throw wrong('has credentials in it: headers are for those')
  try {
    addresses.checkHost(url)
  } catch (error) {
    throw wrong((error as Error).message)
  }
}

function checkCustomHeaders(headers: Record<string, string>): void {
  let size = 0
  const names = new Set<string>()
  for (const [name, value] of Object.entries(headers)) {
    const wrong = (detail: string) => invalidRequest(`/body/headers/${name}`, detail)
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) throw invalidRequest('/body/headers', 'has a name that no HTTP header can have')
    if (RESERVED_HEADERS.test(name)) throw wrong("is the gateway's to set")
    if (names.has(name.toLowerCase())) throw wrong('is there twice')
    if (!/^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/.test(value)) throw wrong('has a value that no HTTP header can have')
    if (isMask(value)) throw wrong('is masked: give its value')
    names.add(name.toLowerCase())
    size += name.length + value.length
  }
  if (names.size > MAX_CUSTOM_HEADERS || size > MAX_HEADERS_SIZE)
    throw invalidRequest('/body/headers', `has more than ${MAX_CUSTOM_HEADERS} headers, or more than ${MAX_HEADERS_SIZE} bytes`)
}

const timeOf = (at: number) => new Date(at).toISOString()

export function subscriptionToJson(vhost: string, name: string, subscription: Subscription, status: SubscriptionStatus) {
  const { queue, url, secrets, format, headers, concurrency, timeout, lease, retry, giveUp, paused, reason } = subscription
  const { state, delivered, failed, inFlight, lastError, nextAttempt } = status
  return {
    name,
    vhost,
    queue,
    url,
    secrets: secrets.length,
    format,
    headers: shownHeaders(headers),
    concurrency,
    timeout: formatDuration(timeout),
    lease: formatDuration(lease),
    retry: { max_attempts: retry.max_attempts, backoff: backoffToJson(retry.backoff) },
    give_up: giveUp,
    paused,
    state: paused ? ('paused' as const) : state,
    ...(reason !== undefined && { pause_reason: reason }),
    delivered,
    failed,
    in_flight: inFlight,
    ...(lastError && { last_error: lastError.text, last_error_at: timeOf(lastError.at) }),
    ...(nextAttempt !== undefined && { next_attempt: timeOf(nextAttempt) }),
  }
}
