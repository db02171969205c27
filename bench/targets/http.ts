// HTTP connections of the load: kept alive, with one request at a time on each and no pipelining.

import { Client, type Dispatcher } from 'undici'

export interface Request {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  path: string
  headers?: Record<string, string>
  body?: string | Buffer
}

export interface Answer {
  status: number
  body: Buffer
}

const EMPTY = Buffer.alloc(0)

/** A fixed number of HTTP connections, addressed by index. */
export class Connections {
  readonly #clients: Client[]

  /** @param origins the connections are distributed over these in turn */
  constructor(origins: string[], count: number) {
    const options: Client.Options = { pipelining: 1, keepAliveTimeout: 30_000, headersTimeout: 0, bodyTimeout: 0 }
    this.#clients = Array.from({ length: count }, (_, n) => new Client(origins[n % origins.length]!, options))
  }

  /** Sends a request on a connection. Resolves with its response, whatever the status. */
  send(connection: number, request: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let status = 0
      let first: Buffer | undefined
      let more: Buffer[] | undefined
      this.#clients[connection]!.dispatch(request, {
        onRequestStart() {},
        onResponseStart(_controller, statusCode) {
          status = statusCode
        },
        onResponseData(_controller, chunk) {
          if (!first) first = chunk
          else if (more) more.push(chunk)
          else more = [first, chunk]
        },
        onResponseEnd() {
          resolve({ status, body: more ? Buffer.concat(more) : (first ?? EMPTY) })
        },
        onResponseError(_controller, error) {
          reject(error)
        },
      })
    })
  }

  /** Sends a request on a connection and resolves with the body. @throws Error with the response if it has another status */
  async expect(status: number, connection: number, request: Request): Promise<Buffer> {
    const answer = await this.send(connection, request)
    if (answer.status !== status) {
      throw new Error(`${request.method} ${request.path}: ${answer.status} ${answer.body.toString('utf8').slice(0, 300)}`)
    }
    return answer.body
  }

  /**
   * Reads an endless response on a connection, and resolves when it has closed that connection.
   * @param onData returns true to close the connection
   * @throws Error if the status is not 200 or the server ends the response
   */
  stream(connection: number, request: Request, onData: (chunk: Buffer) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      let over = false
      const handler: Dispatcher.DispatchHandler = {
        onRequestStart() {},
        onResponseStart(controller, statusCode) {
          if (statusCode !== 200) controller.abort(new Error(`${request.path}: ${statusCode}`))
        },
        onResponseData(controller, chunk) {
          if (over || !onData(chunk)) return
          over = true
          controller.abort(new Error('the client has read enough'))
        },
        onResponseEnd: () => reject(new Error(`${request.path}: the server ended the response`)),
        onResponseError: (_controller, error) => (over ? resolve() : reject(error)),
      }
      this.#clients[connection]!.dispatch(request, handler)
    })
  }

  /** Closes all connections, including those with a request in progress. */
  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.destroy()))
  }
}
