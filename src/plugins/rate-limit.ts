// So many requests of one identity in so much time; of one address, where it is not known who asks.

import limits, { normalizeIP } from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../problems.js'
import type { Services } from '../services.js'

/** As many are counted at the same time; beyond it the least recently seen starts anew. */
const MAX_COUNTED = 10_000

/**
 * Where a request comes from, for counting: whoever has one address of IPv6 has all of its /64.
 * @param address undefined where the connection is gone by now
 */
export const clientKey = (address: string | undefined): string => normalizeIP(address ?? '')

/** Comes after the plugin that finds out who asks. */
export const rateLimit = fp(async (app: FastifyInstance, { config }: Services) => {
  if (!config.RATE_LIMIT) return
  const { requests: max, window } = config.RATE_LIMIT
  await app.register(limits, { global: false, cache: MAX_COUNTED })
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
    const detail = `More than ${max} requests in ${window / 1000} s.`
    throw new Problem('rate_limited', detail, { retryAfter: Math.max(1, ttlInSeconds) })
  })
})
