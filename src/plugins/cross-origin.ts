// What a browser is told, and what a page of a stranger is refused. A browser sends requests wherever a page tells it to, to
// ports of this machine too, and with whatever it has been let in with: so only pages from here, and of origins that were
// named, may have it ask for anything.

import { isIP } from 'node:net'
import cors from '@fastify/cors'
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { openToAll } from '../access/requirements.js'
import { isLoopback } from '../config/parsers.js'
import { Problem } from '../problems.js'
import type { Services } from '../services.js'

export const crossOrigin = fp(async (app: FastifyInstance, { config, authentication: access }: Services) => {
  const { CORS_ORIGINS, ALLOWED_HOSTS, ADVERTISE_URL, HOST, TLS_CERT_FILE } = config
  const headers = {
    // An origin that may ask may use the answer; for every other page there is none, not as an image either.
    'cross-origin-resource-policy': CORS_ORIGINS.length > 0 ? 'cross-origin' : 'same-origin',
    ...(TLS_CERT_FILE && { 'strict-transport-security': 'max-age=31536000' }),
  }
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers)
    done()
  })
  if (CORS_ORIGINS.length > 0) await allow(app, CORS_ORIGINS)
  if (ALLOWED_HOSTS.length > 0 || (access.isOpen && isLoopback(HOST)))
    app.addHook('onRequest', knownHost(ALLOWED_HOSTS, ADVERTISE_URL))
  if (!CORS_ORIGINS.includes('*')) app.addHook('onRequest', knownOrigin(new Set(CORS_ORIGINS)))
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
    // What asks with no origin is no browser, and gets an answer that it can read.
    strictPreflight: false,
  })
}

const MAX_KNOWN_HOSTS = 100

/**
 * A page can let its own name lead to this machine, and is then of the same origin as the gateway (DNS rebinding): what gives
 * it away is the name it asks for. An address is nobody's to redirect. Where no names were
 * given only browsers are asked, which a page can't have leave out their language: other programs may use what name they like.
 */
function knownHost(allowed: readonly string[], advertised: string | undefined): onRequestHookHandler {
  const names = ['localhost', ...allowed.map((name) => name.toLowerCase())]
  if (advertised !== undefined) names.push(new URL(advertised).hostname)
  const known = new Set<string | undefined>([undefined])
  return (request, _reply, done) => {
    const { host, 'accept-language': language } = request.raw.headers
    if ((allowed.length === 0 && language === undefined) || known.has(host)) {
      done()
      return
    }
    const name = host!
      .replace(/:\d*$/, '')
      .replace(/^\[|\]$/g, '')
      .toLowerCase()
    if (isIP(name) === 0 && !names.includes(name) && !name.endsWith('.localhost')) {
      done(new Problem('access_refused', 'This gateway has no such name. Those it has beside localhost are in ALLOWED_HOSTS.'))
      return
    }
    if (known.size < MAX_KNOWN_HOSTS) known.add(host)
    done()
  }
}

/** Browsers say where a request comes from (https://www.w3.org/TR/fetch-metadata/), old ones by its origin alone. */
function knownOrigin(allowed: ReadonlySet<string>): onRequestHookHandler {
  return (request, _reply, done) => {
    const { origin, 'sec-fetch-site': site } = request.raw.headers
    if (site === undefined && origin === undefined) {
      done()
      return
    }
    const own = site === undefined ? isOwn(origin!, request) : site === 'same-origin' || site === 'none'
    const may = own || (origin !== undefined && allowed.has(origin)) || isOpenTo(request)
    done(may ? undefined : new Problem('access_refused', 'A page of another origin asks. Those that may are in CORS_ORIGINS.'))
  }
}

const isOwn = (origin: string, request: FastifyRequest): boolean => origin.replace(/^\w+:\/\//, '') === request.host

/** What changes nothing may be linked to from anywhere. */
const isOpenTo = (request: FastifyRequest): boolean => request.routeOptions.config.access?.kind === 'open'
