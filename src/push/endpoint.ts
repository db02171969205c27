// The connections to one endpoint. Its responses are read up to a limit, and redirects are not followed.

import { once } from 'node:events'
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { AddressPolicy } from './address-policy.js'

const MAX_RESPONSE_BYTES = 64 * 1024
const ENDPOINT_CONNECT_TIMEOUT_MS = 10_000
const ENDPOINT_KEEP_ALIVE_MS = 4000

export interface EndpointResponse {
  status: number
  retryAfter: string | undefined
  /** The body, up to the limit. */
  body: Buffer
}

/** There was no response; the message is the reason. */
export class RequestFailed extends Error {}

/** An HTTP client for one endpoint, which connects only to addresses that the policy allows. */
export class Endpoint {
  readonly url: string
  readonly #url: URL
  readonly #addresses: AddressPolicy
  readonly #agent: HttpAgent
  readonly #running = new Map<AbortController, Promise<unknown>>()

  /** @param connections the most open connections */
  constructor({ url, connections, addresses }: { url: string; connections: number; addresses: AddressPolicy }) {
    this.url = url
    this.#url = new URL(url)
    this.#addresses = addresses
    const options = { keepAlive: true, maxSockets: connections, timeout: ENDPOINT_KEEP_ALIVE_MS, lookup: addresses.lookup }
    this.#agent = this.#isSecure ? new HttpsAgent({ ...options, rejectUnauthorized: true }) : new HttpAgent(options)
  }

  /**
   * POSTs a body and resolves with the response, whatever its status.
   * @param timeout milliseconds from the connect to the last byte of the response
   * @throws RequestFailed
   */
  async post(headers: Record<string, string>, body: Buffer, timeout: number): Promise<EndpointResponse> {
    const abort = new AbortController()
    const timer = setTimeout(() => abort.abort(new RequestFailed(`no whole answer within ${timeout / 1000} s`)), timeout)
    const exchange = this.#exchange(headers, body, abort.signal)
    this.#running.set(
      abort,
      exchange.catch(() => undefined),
    )
    try {
      return await exchange
    } catch (error) {
      throw abort.signal.aborted ? abort.signal.reason : new RequestFailed(requestFailure(error), { cause: error })
    } finally {
      clearTimeout(timer)
      this.#running.delete(abort)
    }
  }

  /** Closes the connections once the running requests have their responses, and resolves then. */
  async retire(): Promise<void> {
    await Promise.all(this.#running.values())
    this.#agent.destroy()
  }

  /** Aborts running requests and closes the connections. */
  async close(): Promise<void> {
    for (const abort of this.#running.keys()) abort.abort(new RequestFailed('the gateway is shutting down'))
    await this.retire()
  }

  get #isSecure(): boolean {
    return this.#url.protocol === 'https:'
  }

  /** Node.js passes over interim responses, also a `100 Continue` that nobody asked for (RFC 9110, 15.2). */
  async #exchange(headers: Record<string, string>, body: Buffer, signal: AbortSignal): Promise<EndpointResponse> {
    this.#addresses.checkHost(this.#url)
    const send = this.#isSecure ? httpsRequest : httpRequest
    const request = send(this.#url, { method: 'POST', agent: this.#agent, headers, signal })
    limitConnect(request, this.#isSecure ? 'secureConnect' : 'connect')
    request.end(body)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    // The endpoint may close the connection with the rest of the request unread. Its response counts.
    request.on('error', () => undefined)
    const retryAfter = response.headers['retry-after']
    return { status: response.statusCode ?? 0, retryAfter, body: await readUpTo(response) }
  }
}

/** Ends a request whose new connection takes too long. */
function limitConnect(request: ClientRequest, connected: 'connect' | 'secureConnect'): void {
  request.once('socket', (socket) => {
    if (!socket.connecting) return
    const seconds = ENDPOINT_CONNECT_TIMEOUT_MS / 1000
    const late = setTimeout(
      () => request.destroy(new RequestFailed(`no connection within ${seconds} s`)),
      ENDPOINT_CONNECT_TIMEOUT_MS,
    )
    const done = () => clearTimeout(late)
    socket.once(connected, done)
    request.once('close', done)
  })
}

/** Reads up to the limit. Leaving the loop early ends the connection. */
async function readUpTo(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= MAX_RESPONSE_BYTES) break
  }
  return Buffer.concat(chunks).subarray(0, MAX_RESPONSE_BYTES)
}

/** The reason for people: the system's message, and its code. */
function requestFailure(error: unknown): string {
  const { message, code, errors } = error as Error & { code?: string; errors?: unknown[] }
  // If several addresses were tried, the first error says enough.
  if (!message && errors?.[0]) return requestFailure(errors[0])
  return code && !message.includes(code) ? `${message} (${code})` : message || String(error)
}
