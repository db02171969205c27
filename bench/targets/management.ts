// RabbitMQ's management API, which comes with every broker and can publish and get over HTTP too.

import { countOccurrences } from '../load.js'
import { Connections } from './http.js'

/** Publishes and gets through the management API, one request at a time on each connection. */
export class ManagementClient {
  readonly #connections: Connections
  readonly #headers: Record<string, string>

  /** @param url of the management API, with credentials */
  constructor(url: string, connections: number) {
    const { origin, username, password } = new URL(url)
    this.#connections = new Connections([origin], connections)
    const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')
    this.#headers = { authorization: `Basic ${credentials}`, 'content-type': 'application/json' }
  }

  /** Publishes a persistent message. Resolves with 1. The API always waits for the confirm. @throws Error if it is not routed */
  async publish(connection: number, queue: string, payload: string): Promise<number> {
    const body = JSON.stringify({
      properties: { delivery_mode: 2, content_type: 'application/json' },
      routing_key: queue,
      payload,
      payload_encoding: 'string',
    })
    const answer = await this.#post(connection, '/api/exchanges/%2F/amq.default/publish', body)
    if (!answer.includes('"routed":true')) throw new Error(`not routed: ${answer}`)
    return 1
  }

  /** Gets up to `count` messages, which RabbitMQ acknowledges at once. Resolves with their number. */
  async get(connection: number, queue: string, count: number): Promise<number> {
    const body = `{"count":${count},"ackmode":"ack_requeue_false","encoding":"auto"}`
    return countOccurrences(await this.#post(connection, `/api/queues/%2F/${queue}/get`, body), '"payload_encoding":')
  }

  async close(): Promise<void> {
    await this.#connections.close()
  }

  #post(connection: number, path: string, body: string): Promise<Buffer> {
    return this.#connections.expect(200, connection, { method: 'POST', path, headers: this.#headers, body })
  }
}
