// Clients that begin and don't go on: a body that stops, an answer that nobody reads. Long polls and streams are neither.
// Headers that don't come, and connections that nobody uses, are the HTTP server's own to end.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Services } from '../services.js'
import { clientError } from './errors.js'

/** What a body has to bring within BODY_TIMEOUT, or end: less is a trickle to hold the connection. */
const MIN_BYTES_PER_TIMEOUT = 1024
/** Lines may come as they happen. */
const NDJSON_PATIENCE = 10

/** The last exchange on a connection; one object for all of them. */
interface Watch {
  request: IncomingMessage
  response: ServerResponse
  read: number
  readAt: number
  /** The answer whose reader is on the clock. */
  timed: ServerResponse | undefined
}

export const slowClients = fp(async (app: FastifyInstance, { config }: Services) => {
  const limit = config.BODY_TIMEOUT
  const watches = new Map<Socket, Watch>()
  app.addHook('onRequest', (request, reply, done) => {
    const { raw } = request
    const watch = watches.get(raw.socket)
    if (watch) {
      watch.request = raw
      watch.response = reply.raw
      watch.readAt = 0
    } else {
      watches.set(raw.socket, { request: raw, response: reply.raw, read: 0, readAt: 0, timed: undefined })
      raw.socket.once('close', () => watches.delete(raw.socket))
    }
    done()
  })

  const sweep = setInterval(
    () => {
      const now = Date.now()
      for (const [socket, watch] of watches) {
        if (!watch.request.complete) checkBody(socket, watch, now, limit)
        else if (watch.response.writableEnded && socket.writableLength > 0) timeReader(socket, watch, limit)
      }
    },
    Math.min(2000, limit / 4),
  )
  app.addHook('onClose', (_app, done) => {
    clearInterval(sweep)
    done()
  })
})

function checkBody(socket: Socket, watch: Watch, now: number, limit: number): void {
  const { request, response, readAt } = watch
  // Bytes that wait in here are ours to be slow with.
  if (readAt === 0 || socket.bytesRead - watch.read >= MIN_BYTES_PER_TIMEOUT || request.readableLength > 0) {
    watch.read = socket.bytesRead
    watch.readAt = now
    return
  }
  const patience = /ndjson/i.test(request.headers['content-type'] ?? '') ? NDJSON_PATIENCE : 1
  if (now - readAt < limit * patience) return
  if (response.headersSent) socket.destroy()
  else clientError(Object.assign(new Error('slow'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), socket)
}

/** Node's own timeout knows what the client takes of one large piece. It is the HTTP server's again once all is written. */
function timeReader(socket: Socket, watch: Watch, limit: number): void {
  if (watch.timed === watch.response) return
  watch.timed = watch.response
  socket.setTimeout(limit)
}
