// Thousands of long polls, each of which is repeated as soon as it has a response.

import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayClient } from './gateway.js'
import { processorTime, type Server } from './server.js'

/** Polls are opened in groups with a pause between them, so that the server's listen backlog does not overflow. */
const AT_ONCE = 100
const PAUSE_MS = 50

/** A growing number of open polls at one server. */
export class LongPolls {
  readonly #server: Server
  readonly #queues: string[]
  readonly #clients: GatewayClient[] = []
  #closed = false
  #failure: Error | undefined
  #onAnswer: (() => void) | undefined
  #count = 0

  /** @param queues the polls are distributed over these in turn */
  constructor(server: Server, queues: string[]) {
    this.#server = server
    this.#queues = queues
  }

  /** Opens polls until there are `count`, and resolves when the server is idle. @throws Error if a poll failed */
  async growTo(count: number): Promise<void> {
    while (this.#count < count) {
      const more = Math.min(AT_ONCE, count - this.#count)
      const client = new GatewayClient([this.#server], more)
      this.#clients.push(client)
      for (let n = 0; n < more; n++) void this.#poll(client, n, this.#queues[this.#count++ % this.#queues.length]!)
      await sleep(PAUSE_MS)
      this.throwIfFailed()
    }
    await waitUntilIdle(this.#server)
    this.throwIfFailed()
  }

  /** Resolves when the next poll receives a message. Rejects if a poll fails first. */
  nextAnswer(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onAnswer = () => (this.#failure ? reject(this.#failure) : resolve())
    })
  }

  /** @throws Error of the first poll that failed */
  throwIfFailed(): void {
    if (this.#failure) throw this.#failure
  }

  /** Closes the connections of all polls. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#clients.map((client) => client.close()))
  }

  async #poll(client: GatewayClient, n: number, queue: string): Promise<void> {
    try {
      for (;;) if ((await client.poll(n, queue)) > 0) this.#onAnswer?.()
    } catch (error) {
      if (this.#closed) return
      this.#failure ??= error as Error
      this.#onAnswer?.()
    }
  }
}

/** Resolves when the server has used less than 5 % of a core for 500 ms. @throws Error after 40 s */
export async function waitUntilIdle(server: Server): Promise<void> {
  const end = Date.now() + 40_000
  for (;;) {
    const before = processorTime([server.pid])
    await sleep(500)
    if (processorTime([server.pid]) - before < 25_000) return
    if (Date.now() > end) throw new Error('the server did not become idle within 40 s')
  }
}
