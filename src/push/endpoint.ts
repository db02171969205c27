// The connections to one endpoint. Its responses are read up to a limit, and redirects are not followed.

import { Agent } from 'undici'
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
  readonly #agent: Agent
  readonly #running = new Set<AbortController>()

  /** @param connections the most open connections */
  constructor({ url, connections, addresses }: { url: string; connections: number; addresses: AddressPolicy }) {
    this.url = url
    this.#url = new URL(url)
    this.#addresses = addresses
    this.#agent = new Agent({
      connections,
      pipelining: 1,
      keepAliveTimeout: ENDPOINT_KEEP_ALIVE_MS,
      // The timeout of the delivery covers both.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { lookup: addresses.lookup, timeout: ENDPOINT_CONNECT_TIMEOUT_MS, rejectUnauthorized: true },
    })
  }

  /**
   * POSTs a body and resolves with the response, whatever its status.
   * @param timeout milliseconds from the connect to the last byte of the response
   * @throws RequestFailed
   */
  async post(headers: Record<string, string>, body: Buffer, timeout: number): Promise<EndpointResponse> {
    const abort = new AbortController()
    const timer = setTimeout(() => abort.abort(new RequestFailed(`no whole answer within ${timeout / 1000} s`)), timeout)
    this.#running.add(abort)
    try {
      this.#addresses.checkHost(this.#url)
      const { origin, pathname, search } = this.#url
      const request = { origin, path: pathname + search, method: 'POST' as const, headers, body, signal: abort.signal }
      const response = await this.#agent.request(request)
      const retryAfter = response.headers['retry-after']
      return {
        status: response.statusCode,
        retryAfter: typeof retryAfter === 'string' ? retryAfter : undefined,
        body: await readUpTo(response.body),
      }
    } catch (error) {
      throw abort.signal.aborted ? abort.signal.reason : new RequestFailed(requestFailure(error), { cause: error })
    } finally {
      clearTimeout(timer)
      this.#running.delete(abort)
    }
  }

  /** Closes the connections once the running requests have their responses, and resolves then. */
  async retire(): Promise<void> {
    await this.#agent.close().catch(() => undefined)
  }

  /** Aborts running requests and closes the connections. */
  async close(): Promise<void> {
    for (const abort of this.#running) abort.abort(new RequestFailed('the gateway is shutting down'))
    await this.#agent.destroy().catch(() => undefined)
  }
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
