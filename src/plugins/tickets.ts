// Tickets in the query of a stream, in place of an Authorization header. Must be registered before the access plugin.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { bearerRefusal } from '../access/authenticator.js'
import type { Ticket } from '../access/tickets.js'
import { invalidRequest } from '../problems.js'
import type { Services } from '../services.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The ticket that the request came with; null if it has none, or if its route takes none. */
    ticket: Ticket | null
  }
  interface FastifyContextConfig {
    /** Whether the route takes a ticket in `?ticket=`. */
    takesTicket?: boolean
  }
}

const REFUSAL =
  'The ticket is unknown, is for another queue, or has expired. POST …/stream/ticket makes a new one, which is good for a minute.'

/** Sets `request.ticket`, or refuses the request if its ticket is not valid for its path (Problem `unauthorized`). */
export const tickets = fp(async (app: FastifyInstance, { tickets, vhosts }: Services) => {
  app.decorateRequest('ticket', null)
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.routeOptions.config.takesTicket !== true) {
      done()
      return
    }
    const query = request.query as Record<string, unknown>
    if (query['ticket'] === undefined) {
      done()
      return
    }
    if (typeof query['ticket'] !== 'string' || Object.keys(query).length > 1) {
      done(invalidRequest('/query/ticket', 'stands alone: the ticket already has the parameters of the stream'))
      return
    }
    const ticket = tickets.open(query['ticket'], request.headers['last-event-id'] !== undefined)
    if (ticket && isFor(ticket, request, vhosts.defaultName)) {
      request.ticket = ticket
      done()
      return
    }
    done(bearerRefusal(REFUSAL, true))
  })
})

function isFor(ticket: Ticket, { params }: FastifyRequest, defaultVhost: string): boolean {
  const { vhost = defaultVhost, queue } = params as { vhost?: string; queue: string }
  return ticket.vhost === vhost && ticket.queue === queue
}
