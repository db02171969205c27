// Who comes in, and whether he may do what he asks for: before a byte of the body is read, and again for what only the body
// tells. Every route has to say what it wants, or the app does not start.

import type { FastifyInstance, onRequestHookHandler, preHandlerHookHandler, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { ANYBODY, type Identity } from '../access/identity.js'
import type { Requirement } from '../access/requirements.js'
import { Problem } from '../problems.js'
import type { Services } from '../services.js'
import { clientKey } from './rate-limit.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; null where he could not be told, which only an open route gets to see. */
    identity: Identity | null
    /** Why he could not be told. */
    refusal: Problem | null
  }
  interface FastifyContextConfig {
    /** What this route wants of whoever calls it. */
    access?: Requirement
  }
}

export const access = fp(async (app: FastifyInstance, services: Services) => {
  const { authentication: access, vhosts } = services
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => {
    routes.push(route)
    if (!access.isOpen) guard(route, vhosts.defaultName)
  })
  app.addHook('onReady', (done) => {
    for (const { method, url, config } of routes) {
      if (!config?.access) throw new Error(`${method} ${url} does not say what it wants of whoever calls it`)
      for (const one of [method].flat()) access.protectedRoutes.push({ method: one, url, requirement: config.access })
    }
    done()
  })
  if (access.isOpen) {
    app.decorateRequest('identity', { getter: () => ANYBODY })
    app.decorateRequest('refusal', null)
    return
  }
  app.decorateRequest('identity', null)
  app.decorateRequest('refusal', null)
  app.addHook('onRequest', (request, _reply, done) => {
    const settle = (found: Identity | Problem) => {
      if (found instanceof Problem) request.refusal = found
      else request.identity = found
      done()
    }
    const { ip } = request
    const found = access.identify(request.raw.rawHeaders, () => clientKey(ip))
    if (found instanceof Promise) found.then(settle, done)
    else settle(found)
  })
})

/** Puts the checks before the route's own handlers. Its requirement may still be set by hooks that run after this one. */
function guard(route: RouteOptions, defaultVhost: string): void {
  const requirement = () => route.config!.access!
  const vhostOf = (params: unknown) => (params as { vhost?: string }).vhost ?? defaultVhost
  const before: onRequestHookHandler = (request, _reply, done) => {
    const { kind, check: allows, description: says } = requirement()
    if (kind === 'open' || kind === 'instance') done()
    else if (!request.identity) done(request.refusal!)
    else done(allows(request.identity.rights, vhostOf(request.params), request) ? undefined : accessRefused(says))
  }
  const withBody: preHandlerHookHandler = (request, _reply, done) => {
    const { checkBody: allowsBody, description: says } = requirement()
    const may = !allowsBody || allowsBody(request.identity!.rights, vhostOf(request.params), request)
    done(may ? undefined : accessRefused(says))
  }
  route.onRequest = [before, ...[route.onRequest ?? []].flat()]
  if (route.config?.access?.checkBody) route.preHandler = [withBody, ...[route.preHandler ?? []].flat()]
}

/** The same whether there is such a thing or not: nobody has looked. */
function accessRefused(says: string): Problem {
  return new Problem('access_refused', `This wants ${says}.`)
}
