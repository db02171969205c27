// BODY_TIMEOUT: ends connections whose request body stops arriving, or whose response is not read. Long polls and streams are not
// affected. The HTTP server itself times out headers and idle connections.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { now } from '../lib/clock.js'
import { isNdjson } from '../messages/media-type.js'
import type { Services } from '../services.js'
import { clientError } from './errors.js'
import { lingerOnClose } from './lingering-close.js'

/** Bytes that a body must bring within BODY_TIMEOUT unless it ends: fewer would only keep the connection busy. */
const MIN_BYTES_PER_TIMEOUT = 1024
/** NDJSON gets this many times BODY_TIMEOUT: its lines may be written as events happen. */
const NDJSON_PATIENCE = 10

/** The latest request on a connection. One object serves all requests of the connection. */
interface Watch {
  request: IncomingMessage
  response: ServerResponse
  /** The socket's byte count when the body last made progress, and that time on the monotonic clock; 0: none yet. */
  read: number
  readAt: number
  /** The response for which the socket has a write timeout. */
  timed: ServerResponse | undefined
}

/** Watches the connections of all requests. */
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
      const added: Watch = { request: raw, response: reply.raw, read: 0, readAt: 0, timed: undefined }
      watches.set(raw.socket, added)
      lingerOnClose(raw.socket, () => added.request)
      raw.socket.once('close', () => watches.delete(raw.socket))
    }
    done()
  })

  const sweep = setInterval(
    () => {
      const time = now()
      for (const [socket, watch] of watches) {
        if (!watch.request.complete) checkBody(socket, watch, time, limit)
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

function checkBody(socket: Socket, watch: Watch, time: number, limit: number): void {
  const { request, response, readAt } = watch
  // Bytes that are already buffered are the gateway's delay, not the client's.
  if (readAt === 0 || socket.bytesRead - watch.read >= MIN_BYTES_PER_TIMEOUT || request.readableLength > 0) {
    watch.read = socket.bytesRead
    watch.readAt = time
    return
  }
  const patience = isNdjson(request.headers['content-type']) ? NDJSON_PATIENCE : 1
  if (time - readAt < limit * patience) return
  if (response.headersSent) socket.destroy()
  else clientError(Object.assign(new Error('slow'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), socket)
}

/** The socket's own timeout sees the progress within one large write. The HTTP server takes it back once all is written. */
function timeReader(socket: Socket, watch: Watch, limit: number): void {
  if (watch.timed === watch.response) return
  watch.timed = watch.response
  socket.setTimeout(limit)
}
