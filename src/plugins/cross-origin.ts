// Requests from web pages: CORS, and protection from pages of other origins. A page can make a browser send requests to any
// address, ports of this machine included, with the user's credentials. So only the gateway's own pages and pages of CORS_ORIGINS
// may.

import { isIP } from 'node:net'
import cors from '@fastify/cors'
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { openToAll } from '../access/requirements.js'
import { Problem } from '../problems.js'
import type { Services } from '../services.js'
import { isBrowser, sourceOf } from './page-source.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether a GET of the route takes messages from a queue, which no link or image may do. */
    takesMessages?: boolean
  }
}

/** Adds CORS headers, and refuses requests with an unknown `Host` or from pages of other origins (Problem `access_refused`). */
export const crossOrigin = fp(async (app: FastifyInstance, { config, authentication }: Services) => {
  const { CORS_ORIGINS, ALLOWED_HOSTS, ADVERTISE_URL, PUBLIC_URL, TLS_CERT_FILE } = config
  const headers = {
    // Pages of allowed origins may use responses; other pages may not embed them, not even as an image.
    'cross-origin-resource-policy': CORS_ORIGINS.length > 0 ? 'cross-origin' : 'same-origin',
    ...(TLS_CERT_FILE && { 'strict-transport-security': 'max-age=31536000' }),
  }
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers)
    done()
  })
  if (CORS_ORIGINS.length > 0) await allow(app, CORS_ORIGINS)
  if (ALLOWED_HOSTS.length > 0 || authentication.isOpen)
    app.addHook('onRequest', knownHost(ALLOWED_HOSTS, [ADVERTISE_URL, PUBLIC_URL?.origin]))
  const allowed = new Set([...CORS_ORIGINS, ...(PUBLIC_URL?.origin ? [PUBLIC_URL.origin] : [])])
  if (!allowed.has('*')) app.addHook('onRequest', knownOrigin(allowed))
  app.addHook('onRoute', (route) => {
    if (route.config?.takesMessages) route.onRequest = [noLinks(allowed), ...[route.onRequest ?? []].flat()]
  })
})

async function allow(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  app.addHook('onRoute', (route) => {
    if (route.url === '*' && route.method === 'OPTIONS') route.config = { ...route.config, access: openToAll }
  })
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    exposedHeaders: '*',
    maxAge: 600,
    // A preflight without an origin is not from a browser: answer it like any other request.
    strictPreflight: false,
  })
}

const MAX_KNOWN_HOSTS = 100

/**
 * Refuses host names that are not the gateway's. A page can point its own name at this machine, and then has the same origin as
 * the gateway (DNS rebinding); the name in the request gives it away. Nobody can redirect an IP address. Health is open.
 */
function knownHost(allowed: readonly string[], own: readonly (string | undefined)[]): onRequestHookHandler {
  const names = ['localhost', ...allowed.map((name) => name.toLowerCase())]
  for (const url of own) if (url) names.push(new URL(url).hostname)
  const known = new Set<string>()
  return (request, _reply, done) => {
    // Of HTTP/1.0 without a host, which no browser sends, it is empty.
    const { host } = request
    if (!host || known.has(host) || request.routeOptions.url?.startsWith('/health/')) {
      done()
      return
    }
    const name = host
      .replace(/:\d*$/, '')
      .replace(/^\[|\]$|\.$/g, '')
      .toLowerCase()
    if (isIP(name) === 0 && !names.includes(name) && !name.endsWith('.localhost')) {
      done(
        new Problem(
          'access_refused',
          'The host name of the request is not allowed: use an IP address, localhost, or a name that ALLOWED_HOSTS lists.',
        ),
      )
      return
    }
    if (known.size < MAX_KNOWN_HOSTS) known.add(host)
    done()
  }
}

/**
 * Refuses requests from pages of other origins. Browsers name the source of a request in `sec-fetch-site`
 * (https://www.w3.org/TR/fetch-metadata/), old browsers only in `origin`.
 */
function knownOrigin(allowed: ReadonlySet<string>): onRequestHookHandler {
  return (request, _reply, done) => {
    const { origin, 'sec-fetch-site': site } = request.raw.headers
    if (site === undefined && origin === undefined) {
      done()
      return
    }
    const own = site === undefined ? isOwn(origin!, request) : site === 'same-origin' || site === 'none'
    const may = own || (origin !== undefined && allowed.has(origin)) || isOpenTo(request)
    done(
      may
        ? undefined
        : new Problem(
            'access_refused',
            'The request is from a web page of another origin. CORS_ORIGINS lists the origins that are allowed.',
          ),
    )
  }
}

const isOwn = (origin: string, request: FastifyRequest): boolean => origin.replace(/^\w+:\/\//, '') === request.host

/** Open routes change nothing, so any page may link to them. */
const isOpenTo = (request: FastifyRequest): boolean => request.routeOptions.config.access?.kind === 'open'

/**
 * Refuses a browser's GET that takes messages, unless its headers name a page of the gateway or of CORS_ORIGINS. A link, an image
 * or an address that somebody typed has none.
 */
function noLinks(allowed: ReadonlySet<string>): onRequestHookHandler {
  return (request, _reply, done) => {
    const { headers } = request.raw
    if (!isBrowser(headers) || isFromPage(request, allowed)) {
      done()
      return
    }
    done(
      new Problem(
        'access_refused',
        'A browser may take messages only for a page of the gateway or of CORS_ORIGINS. Request this from a script of such a page, so that `origin` or `referer` names it, or from a program that sends no browser headers (`accept-language`, `sec-fetch-…`, a `user-agent` that begins with Mozilla).',
      ),
    )
  }
}

function isFromPage(request: FastifyRequest, allowed: ReadonlySet<string>): boolean {
  const { headers } = request.raw
  const site = headers['sec-fetch-site']
  const source = sourceOf(headers)
  if (site === 'same-origin') return true
  if (source === undefined) return false
  return (
    allowed.has(source) || (headers.origin !== undefined && allowed.has('*')) || (site === undefined && isOwn(source, request))
  )
}
