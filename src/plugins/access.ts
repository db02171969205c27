// Authentication and authorization of every request: before a byte of the body is read, and again for the rights that only the
// body tells. Every route must have a requirement, or the app does not start.

import type { FastifyInstance, FastifyRequest, onRequestHookHandler, preHandlerHookHandler, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { ANYBODY, type Identity } from '../access/identity.js'
import type { Requirement } from '../access/requirements.js'
import type { Ticket } from '../access/tickets.js'
import { Problem } from '../problems.js'
import type { Services } from '../services.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The caller; null if not authenticated, which only open routes get to see. */
    identity: Identity | null
    /** Why the caller was not authenticated. */
    refusal: Problem | null
  }
  interface FastifyContextConfig {
    /** What the route requires of its callers. */
    access?: Requirement
  }
}

/** Sets `request.identity` or `request.refusal`, and refuses requests that do not meet the requirement of their route. */
export const access = fp(async (app: FastifyInstance, services: Services) => {
  const { authentication, vhosts } = services
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => {
    routes.push(route)
    if (!authentication.isOpen) guard(route, vhosts.defaultName)
  })
  app.addHook('onReady', (done) => {
    for (const { method, url, config } of routes) {
      if (!config?.access) throw new Error(`${method} ${url} has no access requirement`)
      for (const one of [method].flat()) authentication.protectedRoutes.push({ method: one, url, requirement: config.access })
    }
    done()
  })
  if (authentication.isOpen) {
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
    const { method, raw, hidesClient } = request
    const ip = hidesClient ? '' : (request.ip ?? '')
    const { url = '' } = raw
    const rawHeaders = request.ticket ? credentialsOf(request.ticket) : raw.rawHeaders
    const found = authentication.identify({ method, url, rawHeaders, address: ip })
    if (found instanceof Promise) found.then(settle, done)
    else settle(found)
  })
})

/** Node's list of names and values, with the credentials of the ticket's maker alone. */
const credentialsOf = ({ authorization }: Ticket): string[] =>
  authorization === undefined ? [] : ['authorization', authorization]

/** Puts the checks before the route's own handlers. Hooks that run after this one may still set its requirement. */
function guard(route: RouteOptions, defaultVhost: string): void {
  const requirement = () => route.config!.access!
  const vhostOf = (params: unknown) => (params as { vhost?: string }).vhost ?? defaultVhost
  const checkRequest: onRequestHookHandler = (request, _reply, done) => {
    const { kind, check, description } = requirement()
    if (kind === 'open' || kind === 'instance') done()
    else if (!request.identity) done(request.refusal!)
    else done(check(request.identity.rights, vhostOf(request.params), request) ? undefined : accessRefused(description, request))
  }
  const checkBody: preHandlerHookHandler = (request, _reply, done) => {
    const { checkBody: check, description } = requirement()
    const isAllowed = !check || check(request.identity!.rights, vhostOf(request.params), request)
    done(isAllowed ? undefined : accessRefused(description, request))
  }
  route.onRequest = [checkRequest, ...[route.onRequest ?? []].flat()]
  if (route.config?.access?.checkBody) route.preHandler = [checkBody, ...[route.preHandler ?? []].flat()]
}

/** The same answer whether the resource exists or not: the gateway has not looked. */
function accessRefused(description: string, { identity }: FastifyRequest): Problem {
  const hint = identity?.withoutRights
  return new Problem('access_refused', `This requires ${description}.${hint === undefined ? '' : ` ${hint}`}`)
}
