// RATE_LIMIT: requests per identity in a window of time, or per client address if the caller is not authenticated.

import limits, { type FastifyRateLimitStore, type FastifyRateLimitStoreCtor, normalizeIP } from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ExpiringMap } from '../lib/expiring-map.js'
import { Problem } from '../problems.js'
import type { Services } from '../services.js'

/** Identities and addresses that are counted at the same time; beyond it, the least recently seen one starts again at zero. */
const MAX_COUNTED = 10_000

/**
 * The client of a request, for counting: an IPv4 address, or the /64 of an IPv6 address, which one client owns.
 * @param address undefined if the connection is already closed
 */
const clientKey = (address: string | undefined): string => normalizeIP(address ?? '')

/** Counts requests and answers 429 beyond the limit. Must be registered after the plugin that authenticates. */
export const rateLimit = fp(async (app: FastifyInstance, { config }: Services) => {
  if (!config.RATE_LIMIT) return
  const { requests: max, window } = config.RATE_LIMIT
  await app.register(limits, { global: false, store: storeFor(window) })
  const count = app.createRateLimit({
    max,
    timeWindow: window,
    // An identity's name has a space in it, which no address has.
    keyGenerator: (request) => request.identity?.name || clientKey(request.ip),
  })
  // https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
  const policy = `"requests";q=${max};w=${Math.max(1, Math.ceil(window / 1000))}`
  app.addHook('onRequest', async (request, reply) => {
    const kind = request.routeOptions.config.access?.kind
    if (kind === 'open' || kind === 'instance') return
    const counted = await count(request)
    if (counted.isAllowed) return
    const { remaining, ttlInSeconds, isExceeded } = counted
    reply.header('ratelimit-policy', policy).header('ratelimit', `"requests";r=${remaining};t=${ttlInSeconds}`)
    if (!isExceeded) return
    const detail = `The limit is ${max} requests in ${window / 1000} s.`
    throw new Problem('rate_limited', detail, { retryAfter: Math.max(1, ttlInSeconds) })
  })
})

/** A store of counts for windows of this length. Not the library's own: that goes by the wall clock, which can be set. */
const storeFor = (window: number): FastifyRateLimitStoreCtor =>
  class implements FastifyRateLimitStore {
    readonly #counts = new ExpiringMap<{ current: number }>(MAX_COUNTED, window)

    incr(key: string, done: (error: Error | null, result: { current: number; ttl: number }) => void): void {
      const count = this.#counts.get(key) ?? { current: 0 }
      if (count.current++ === 0) this.#counts.set(key, count)
      done(null, { current: count.current, ttl: this.#counts.remaining(key) })
    }

    child(): FastifyRateLimitStore {
      return this
    }
  }
