// A response may come before its request has arrived whole: credentials that are refused, a body that is too large. If the
// connection is to be closed then, unread bytes would make the close a reset, and the client would lose the response.

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { now } from '../lib/clock.js'

/** So much of the rest of a body is read and dropped, within this time (RFC 9112, 9.6). */
const MAX_BYTES = 8 * 1024 * 1024
const MAX_MS = 5000
const CHECK_INTERVAL_MS = 20

/**
 * Makes a connection close only once the client has sent the rest of its request, or has closed its own side, or after 5
 * seconds. The response is followed by the end of the gateway's side at once. After 8 MiB the rest is left unread.
 * @param current the latest request on the connection
 */
export function lingerOnClose(socket: Socket, current: () => IncomingMessage): void {
  const closeNow = socket.destroySoon
  // Node.js' HTTP server calls this after a response with `connection: close`.
  socket.destroySoon = () => {
    const request = current()
    if (request.complete || request.destroyed || socket.destroyed) return closeNow.call(socket)
    socket.end()
    request.resume()
    const before = socket.bytesRead
    const end = now() + MAX_MS
    const timer = setInterval(() => {
      if (request.complete || now() > end) socket.destroy()
      else if (socket.bytesRead - before > MAX_BYTES) socket.pause()
    }, CHECK_INTERVAL_MS)
    socket.once('close', () => clearInterval(timer))
  }
}
