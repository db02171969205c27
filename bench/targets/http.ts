// HTTP connections of the load: a request at a time on each, kept alive, nothing pipelined.

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

export class Connections {
  readonly #clients: Client[]

  /** @param origins several are used in turn, a connection each */
  constructor(origins: string[], count: number) {
    const options: Client.Options = { pipelining: 1, keepAliveTimeout: 30_000, headersTimeout: 0, bodyTimeout: 0 }
    this.#clients = Array.from({ length: count }, (_, n) => new Client(origins[n % origins.length]!, options))
  }

  /** One request on that connection. */
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

  /** As send(), where only that status is a success. @throws Error with the answer otherwise */
  async expect(status: number, connection: number, request: Request): Promise<Buffer> {
    const answer = await this.send(connection, request)
    if (answer.status !== status) {
      throw new Error(`${request.method} ${request.path}: ${answer.status} ${answer.body.toString('utf8').slice(0, 300)}`)
    }
    return answer.body
  }

  /**
   * An answer without an end, on that connection.
   * @param onData may return true to hang up
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
          controller.abort(new Error('enough'))
        },
        onResponseEnd: () => reject(new Error(`${request.path} ended by itself`)),
        onResponseError: (_controller, error) => (over ? resolve() : reject(error)),
      }
      this.#clients[connection]!.dispatch(request, handler)
    })
  }

  /** Hangs up, whatever is under way. */
  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.destroy()))
  }
}
