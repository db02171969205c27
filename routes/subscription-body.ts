// Reads a subscription from a request body, and writes it as JSON.

import type { Static } from 'typebox'
import type { SubscriptionDefinitionSchema } from '../openapi/schemas/subscription.js'
import { isReserved } from '../src/amqp/wire/reserved.js'
import type { Config } from '../src/config/index.js'
import { longestLease } from '../src/config/index.js'
import { formatDuration } from '../src/lib/units.js'
import { nameError } from '../src/messages/properties.js'
import { invalidRequest } from '../src/problems.js'
import type { AddressPolicy } from '../src/push/address-policy.js'
import { secretError } from '../src/push/signature.js'
import type { SubscriptionStatus } from '../src/push/status.js'
import { isMasked, type Subscription, shownHeaders, shownUrl } from '../src/push/subscription.js'
import { backoffOf, backoffToJson, durationOf, reservedName } from './params.js'

/** A subscription from a body. `secrets`, `giveUp` and `paused` are undefined if the body does not name them. */
export interface RequestedSubscription extends Omit<Subscription, 'secrets' | 'paused' | 'giveUp'> {
  secrets: readonly string[] | undefined
  giveUp: Subscription['giveUp'] | undefined
  paused: boolean | undefined
}

const MAX_CUSTOM_HEADERS = 32
const MAX_HEADERS_BYTES = 4096
const MIN_TIMEOUT_MS = 100
const MAX_TIMEOUT_MS = 600_000
const MIN_LEASE_MS = 1000
const DEFAULT_LEASE_MS = 30_000
/** The headers that frame or describe a request, or name its sender: the gateway sets them. */
const RESERVED_HEADERS =
  /^(host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|content-.*|location|traceparent|tracestate|baggage|(webhook|lease|amqp|ce)-.*)$/i

/**
 * Reads a subscription, with the defaults for absent members.
 * @param addresses refuses URLs whose host is an address that must not be reached
 * @throws Problem invalid_request; access_refused: the queue belongs to the gateway
 */
export function readSubscription(
  body: Static<typeof SubscriptionDefinitionSchema>,
  config: Config,
  addresses: AddressPolicy,
): RequestedSubscription {
  const detail = nameError(body.queue)
  if (detail) throw invalidRequest('/body/queue', detail)
  if (isReserved(body.queue)) throw reservedName()
  checkUrl(body.url, addresses)
  const { secret, headers = {}, timeout = '15s', lease, retry = {} } = body
  checkCustomHeaders(headers)
  const secrets = secret === undefined ? undefined : [secret].flat()
  secrets?.forEach((one, index) => {
    const wrong = secretError(one)
    if (wrong) throw invalidRequest(Array.isArray(secret) ? `/body/secret/${index}` : '/body/secret', wrong)
  })
  const longest = longestLease(config)
  const time = durationOf(timeout, '/body/timeout', MIN_TIMEOUT_MS, Math.min(MAX_TIMEOUT_MS, longest))
  return {
    queue: body.queue,
    url: body.url,
    secrets,
    format: body.format ?? 'raw',
    headers,
    concurrency: body.concurrency ?? 10,
    timeout: time,
    lease:
      lease === undefined
        ? Math.min(longest, Math.max(DEFAULT_LEASE_MS, time))
        : durationOf(lease, '/body/lease', MIN_LEASE_MS, longest),
    retry: { max_attempts: retry.max_attempts ?? 10, backoff: backoffOf(retry.backoff, '/body/retry/backoff') },
    giveUp: body.give_up,
    paused: body.paused,
  }
}

function checkUrl(text: string, addresses: AddressPolicy): void {
  const wrong = (detail: string) => invalidRequest('/body/url', detail)
  if (!URL.canParse(text)) throw wrong('is not a URL')
  if (isMasked(text)) throw wrong('is masked: send the real URL')
  const url = new URL(text)
  if (!/^https?:$/.test(url.protocol)) throw wrong('must begin with https:// or http://')
  if (url.username || url.password) throw wrong('has credentials in it: put them into a header')
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
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name))
      throw invalidRequest('/body/headers', 'has a name that is not valid for an HTTP header')
    if (RESERVED_HEADERS.test(name)) throw wrong('is set by the gateway')
    if (names.has(name.toLowerCase())) throw wrong('is set twice')
    if (!/^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/.test(value))
      throw wrong('has a value that is not valid for an HTTP header')
    if (isMasked(value)) throw wrong('is masked: send its real value')
    names.add(name.toLowerCase())
    size += name.length + value.length
  }
  if (names.size > MAX_CUSTOM_HEADERS || size > MAX_HEADERS_BYTES)
    throw invalidRequest('/body/headers', `has more than ${MAX_CUSTOM_HEADERS} headers, or more than ${MAX_HEADERS_BYTES} bytes`)
}

const timeOf = (at: number) => new Date(at).toISOString()

/** The JSON form of a subscription, with secrets counted, and the URL and headers masked. */
export function subscriptionToJson(
  vhost: string,
  name: string,
  subscription: Subscription,
  { status, hasPolicy }: { status: SubscriptionStatus; hasPolicy: boolean },
) {
  const { queue, url, secrets, format, headers, concurrency, timeout, lease, retry, giveUp, paused, reason } = subscription
  const { state, delivered, failed, inFlight, lastError, nextAttempt } = status
  return {
    name,
    vhost,
    queue,
    url: shownUrl(url),
    secrets: secrets.length,
    format,
    headers: shownHeaders(headers),
    concurrency,
    timeout: formatDuration(timeout),
    lease: formatDuration(lease),
    retry: { max_attempts: retry.max_attempts, backoff: backoffToJson(retry.backoff) },
    give_up: giveUp,
    ...(hasPolicy && { retry_policy: 'overridden' as const }),
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
