// Requests that no HTTP library would send: the path and the headers go out unchanged, over a pool of kept connections.

import { once } from 'node:events'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { after } from 'node:test'

export interface RawRequest {
  method: string
  /** With its query; neither normalised nor encoded. */
  path: string
  headers?: Record<string, string>
  body?: Buffer | string | undefined
  /** Closes the connection once a 200 begins, for a response without an end. The text is then empty. */
  leave?: boolean
}

export interface RawResponse {
  status: number
  headers: IncomingHttpHeaders
  text: string
  /** The parsed JSON if the content type says JSON and the text parses; otherwise the text, or undefined if that is empty. */
  body: unknown
}

/** A client for one gateway, with at most `connections` connections; `close` closes them. */
export function rawClient(base: string, connections = 8) {
  const { hostname, port } = new URL(base)
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const send = ({ method, path, headers = {}, body, leave = false }: RawRequest): Promise<RawResponse> =>
    new Promise((resolve, reject) => {
      const outgoing = request({ agent, hostname, port, method, path, headers }, (response) => {
        if (leave && response.statusCode === 200) {
          resolve({ status: 200, headers: response.headers, text: '', body: '' })
          response.destroy()
          return
        }
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          resolve({ status: response.statusCode!, headers: response.headers, text, body: bodyOf(text, response.headers) })
        })
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  return { send, close: () => agent.destroy() }
}

function bodyOf(text: string, headers: IncomingHttpHeaders): unknown {
  if (!/[/+]json\b/.test(headers['content-type'] ?? '')) return text || undefined
  try {
    return JSON.parse(text)
  } catch {
    return text // a raw message: its publisher chose the content type
  }
}

/**
 * Writes bytes to a new connection and resolves with everything received until the gateway closes it.
 * `half` closes the sending side after the bytes.
 */
export function overSocket(base: string, bytes: string | Buffer, { half = false } = {}): Promise<string> {
  const { hostname, port } = new URL(base)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect(Number(port), hostname, () => (half ? socket.end(bytes) : socket.write(bytes)))
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('error', reject)
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('utf8')))
  })
}

/** An open connection to a gateway: its socket, everything received on it so far, and its end. */
export interface Connection {
  socket: Socket
  received: () => string
  closed: Promise<unknown>
}

/** Opens a connection for a test that writes its own bytes; it is closed after the tests. */
export async function dial({ url }: { url: string }): Promise<Connection> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  after(() => socket.destroy())
  socket.on('error', () => undefined)
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  const closed = once(socket, 'close')
  await once(socket, 'connect')
  return { socket, received: () => text, closed }
}
