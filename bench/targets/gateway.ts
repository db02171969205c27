// This gateway's own API, as a client sees it.

import { occurrences } from '../load.js'
import { Connections } from './http.js'
import type { Server } from './server.js'

const LEASE_ID = Buffer.from('"lease":{"id":"')
const JSON_TYPE = { 'content-type': 'application/json' }

export class GatewayClient {
  readonly #connections: Connections

  /** @param servers several instances are used in turn, a connection each */
  constructor(servers: Pick<Server, 'url'>[], connections: number) {
    this.#connections = new Connections(
      servers.map(({ url }) => url),
      connections,
    )
  }

  async publish(connection: number, queue: string, body: string | Buffer): Promise<number> {
    await this.#connections.expect(201, connection, {
      method: 'POST',
      path: `/queues/${queue}/messages`,
      headers: JSON_TYPE,
      body,
    })
    return 1
  }

  /** @param size how many messages the body has, every one of which has to be confirmed */
  async publishBatch(connection: number, queue: string, type: 'json' | 'x-ndjson', body: string, size: number): Promise<number> {
    const path = `/queues/${queue}/messages/batch`
    const headers = { 'content-type': `application/${type}` }
    const answer = await this.#connections.expect(200, connection, { method: 'POST', path, headers, body })
    const confirmed = occurrences(answer, '"status":"confirmed"')
    if (confirmed !== size) throw new Error(`${confirmed} of ${size} confirmed: ${answer.toString('utf8').slice(0, 300)}`)
    return size
  }

  /** Settled by itself. Resolves with how many messages came. */
  async receive(connection: number, queue: string, max: number): Promise<number> {
    return occurrences(await this.#get(connection, queue, `ack=auto&max=${max}`), '"payload_encoding":')
  }

  /** Under leases, whose ids it resolves with. */
  async lease(connection: number, queue: string, max: number, lease = '30s'): Promise<string[]> {
    const body = await this.#get(connection, queue, `max=${max}&lease=${lease}`)
    const ids: string[] = []
    for (let at = body.indexOf(LEASE_ID); at !== -1; at = body.indexOf(LEASE_ID, at)) {
      at += LEASE_ID.length
      ids.push(body.toString('latin1', at, body.indexOf('"', at)))
    }
    return ids
  }

  async ack(connection: number, id: string): Promise<void> {
    await this.#connections.expect(204, connection, { method: 'POST', path: `/leases/${id}/ack` })
  }

  async settle(connection: number, ids: string[]): Promise<void> {
    const body = JSON.stringify({ ack: ids })
    const answer = await this.#connections.expect(200, connection, {
      method: 'POST',
      path: '/leases/settle',
      headers: JSON_TYPE,
      body,
    })
    const acked = occurrences(answer, '"status":"acked"')
    if (acked !== ids.length) throw new Error(`${acked} of ${ids.length} acked: ${answer.toString('utf8').slice(0, 300)}`)
  }

  /** Waits for a message, a minute at most, and resolves with how many came. */
  async poll(connection: number, queue: string): Promise<number> {
    return occurrences(await this.#get(connection, queue, 'ack=auto&wait=60s'), '"payload_encoding":')
  }

  async call(connection: number, queue: string, body: string): Promise<Buffer> {
    return this.#connections.expect(200, connection, { method: 'POST', path: `/queues/${queue}/rpc`, headers: JSON_TYPE, body })
  }

  /** Settled by itself. Hangs up when `onMessages`, told how many came with each piece, returns true. */
  async stream(queue: string, prefetch: number, accept: string, onMessages: (count: number) => boolean): Promise<void> {
    const path = `/queues/${queue}/stream?ack=auto&prefetch=${prefetch}`
    const onData = (chunk: Buffer) => onMessages(occurrences(chunk, '"payload_encoding":'))
    await this.#connections.stream(0, { method: 'GET', path, headers: { accept } }, onData)
  }

  async close(): Promise<void> {
    await this.#connections.close()
  }

  #get(connection: number, queue: string, query: string): Promise<Buffer> {
    return this.#connections.expect(200, connection, { method: 'GET', path: `/queues/${queue}/messages?${query}` })
  }
}
