// A client of this gateway's HTTP API.

import { countOccurrences } from '../load.js'
import { Connections } from './http.js'
import type { Server } from './server.js'

const LEASE_ID = Buffer.from('"lease":{"id":"')
const JSON_TYPE = { 'content-type': 'application/json' }

/** Requests to the gateway, one at a time on each connection. Every method throws if the response is not a success. */
export class GatewayClient {
  readonly #connections: Connections

  /** @param servers the connections are distributed over these instances in turn */
  constructor(servers: Pick<Server, 'url'>[], connections: number) {
    this.#connections = new Connections(
      servers.map(({ url }) => url),
      connections,
    )
  }

  /** Publishes a message. Resolves with 1 when it is confirmed. */
  async publish(connection: number, queue: string, body: string | Buffer): Promise<number> {
    await this.#connections.expect(201, connection, {
      method: 'POST',
      path: `/queues/${queue}/messages`,
      headers: JSON_TYPE,
      body,
    })
    return 1
  }

  /**
   * Publishes a batch. Resolves with `size`.
   * @param size the number of messages in the body
   * @throws Error if fewer are confirmed
   */
  async publishBatch(connection: number, queue: string, type: 'json' | 'x-ndjson', body: string, size: number): Promise<number> {
    const path = `/queues/${queue}/messages/batch`
    const headers = { 'content-type': `application/${type}` }
    const answer = await this.#connections.expect(200, connection, { method: 'POST', path, headers, body })
    const confirmed = countOccurrences(answer, '"status":"confirmed"')
    if (confirmed !== size) throw new Error(`${confirmed} of ${size} confirmed: ${answer.toString('utf8').slice(0, 300)}`)
    return size
  }

  /** Receives up to `max` messages with ack=auto. Resolves with their number. */
  async receive(connection: number, queue: string, max: number): Promise<number> {
    return countOccurrences(await this.#get(connection, queue, `ack=auto&max=${max}`), '"payload_encoding":')
  }

  /** Receives up to `max` messages under leases. Resolves with the ids of the leases. */
  async lease(connection: number, queue: string, max: number, lease = '30s'): Promise<string[]> {
    const body = await this.#get(connection, queue, `max=${max}&lease=${lease}`)
    const ids: string[] = []
    for (let at = body.indexOf(LEASE_ID); at !== -1; at = body.indexOf(LEASE_ID, at)) {
      at += LEASE_ID.length
      ids.push(body.toString('latin1', at, body.indexOf('"', at)))
    }
    return ids
  }

  /** Acknowledges the message of one lease. */
  async ack(connection: number, id: string): Promise<void> {
    await this.#connections.expect(204, connection, { method: 'POST', path: `/leases/${id}/ack` })
  }

  /** Acknowledges the messages of several leases in one request. @throws Error if one of them is not acknowledged */
  async settle(connection: number, ids: string[]): Promise<void> {
    const body = JSON.stringify({ ack: ids })
    const answer = await this.#connections.expect(200, connection, {
      method: 'POST',
      path: '/leases/settle',
      headers: JSON_TYPE,
      body,
    })
    const acked = countOccurrences(answer, '"status":"acked"')
    if (acked !== ids.length) throw new Error(`${acked} of ${ids.length} acked: ${answer.toString('utf8').slice(0, 300)}`)
  }

  /** Receives a message with ack=auto, and waits for it for up to 60 s. Resolves with the number of messages, 0 or 1. */
  async poll(connection: number, queue: string): Promise<number> {
    return countOccurrences(await this.#get(connection, queue, 'ack=auto&wait=60s'), '"payload_encoding":')
  }

  /** Calls a worker. Resolves with the body of its reply. */
  async call(connection: number, queue: string, body: string): Promise<Buffer> {
    return this.#connections.expect(200, connection, { method: 'POST', path: `/queues/${queue}/rpc`, headers: JSON_TYPE, body })
  }

  /**
   * Reads a stream with ack=auto on the first connection.
   * @param onMessages gets the number of messages in each chunk; returns true to close the connection
   */
  async stream(queue: string, prefetch: number, accept: string, onMessages: (count: number) => boolean): Promise<void> {
    const path = `/queues/${queue}/stream?ack=auto&prefetch=${prefetch}`
    const onData = (chunk: Buffer) => onMessages(countOccurrences(chunk, '"payload_encoding":'))
    await this.#connections.stream(0, { method: 'GET', path, headers: { accept } }, onData)
  }

  async close(): Promise<void> {
    await this.#connections.close()
  }

  #get(connection: number, queue: string, query: string): Promise<Buffer> {
    return this.#connections.expect(200, connection, { method: 'GET', path: `/queues/${queue}/messages?${query}` })
  }
}
