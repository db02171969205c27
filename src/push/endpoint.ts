// The connections to one endpoint. What it answers is read to a bound; nothing that it says is followed.

import { Agent } from 'undici'
import type { AddressPolicy } from './address-policy.js'

const MAX_RESPONSE_BYTES = 64 * 1024
const ENDPOINT_CONNECT_TIMEOUT_MS = 10_000
const ENDPOINT_KEEP_ALIVE_MS = 4000

export interface EndpointResponse {
  status: number
  retryAfter: string | undefined
  /** What was read of it. */
  body: Buffer
}

/** No answer, and why not. */
export class RequestFailed extends Error {}

export class Endpoint {
  readonly url: string
  readonly #url: URL
  readonly #addresses: AddressPolicy
  readonly #agent: Agent
  readonly #running = new Set<AbortController>()

  /** @param connections open at the same time, at most */
  constructor({ url, connections, addresses }: { url: string; connections: number; addresses: AddressPolicy }) {
    this.url = url
    this.#url = new URL(url)
    this.#addresses = addresses
    this.#agent = new Agent({
      connections,
      pipelining: 1,
      keepAliveTimeout: ENDPOINT_KEEP_ALIVE_MS,
      // The timeout of the delivery stands over both.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { lookup: addresses.lookup, timeout: ENDPOINT_CONNECT_TIMEOUT_MS, rejectUnauthorized: true },
    })
  }

  /**
   * POSTs a body and resolves with the answer, whatever its status.
   * @param timeout in milliseconds, from the connect to the last byte of the answer
   * @throws NoAnswer
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

  /** Closes its connections once what is under way has been answered, and resolves then. */
  async retire(): Promise<void> {
    await this.#agent.close().catch(() => undefined)
  }

  /** Ends what is under way too. */
  async close(): Promise<void> {
    for (const abort of this.#running) abort.abort(new RequestFailed('the gateway is shutting down'))
    await this.#agent.destroy().catch(() => undefined)
  }
}

/** To the bound: leaving the loop ends the connection of an answer that goes on. */
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

/** A sentence's end for people: what the system says, and its code. */
function requestFailure(error: unknown): string {
  const { message, code, errors } = error as Error & { code?: string; errors?: unknown[] }
  // Of several addresses that were tried the first says enough.
  if (!message && errors?.[0]) return requestFailure(errors[0])
  return code && !message.includes(code) ? `${message} (${code})` : message || String(error)
}
