// Requests as a program would never make them: the path and the headers go out as they are, over a pool of kept connections.

import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'

export interface RawRequest {
  method: string
  /** With its query; not normalised, not encoded. */
  path: string
  headers?: Record<string, string>
  body?: Buffer | string | undefined
  /** Leave once a successful answer begins: for one that has no end. Its text is empty. */
  leave?: boolean
}

export interface RawResponse {
  status: number
  headers: IncomingHttpHeaders
  text: string
  /** The text as JSON, where the content type says so and it is; else the text, or undefined where there is none. */
  body: unknown
}

/** A client for one gateway; `close` lets its connections go. */
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
    return text // a raw message, which may say anything of itself
  }
}

/** Writes bytes to a socket and resolves with all that comes back until the other side closes. */
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
