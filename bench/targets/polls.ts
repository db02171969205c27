// Long polls, thousands of them, each asked again as soon as it is answered.

import { setTimeout as sleep } from 'node:timers/promises'
import { GatewayClient } from './gateway.js'
import { processorTime, type Server } from './server.js'

/** So many requests are begun at once, and the next after a pause, so that no server's queue of new connections runs over. */
const AT_ONCE = 100
const PAUSE = 50

export class Polls {
  readonly #server: Server
  readonly #queues: string[]
  readonly #clients: GatewayClient[] = []
  #closed = false
  #failure: Error | undefined
  #onAnswer: (() => void) | undefined
  #count = 0

  /** @param queues polled in turn */
  constructor(server: Server, queues: string[]) {
    this.#server = server
    this.#queues = queues
  }

  /** Opens more, until there are so many, and resolves when the server has come to rest over them. */
  async reach(count: number): Promise<void> {
    while (this.#count < count) {
      const more = Math.min(AT_ONCE, count - this.#count)
      const client = new GatewayClient([this.#server], more)
      this.#clients.push(client)
      for (let n = 0; n < more; n++) void this.#poll(client, n, this.#queues[this.#count++ % this.#queues.length]!)
      await sleep(PAUSE)
      this.check()
    }
    await atRest(this.#server)
    this.check()
  }

  /** Resolves when the next poll is answered with a message. */
  answered(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onAnswer = () => (this.#failure ? reject(this.#failure) : resolve())
    })
  }

  /** @throws Error where a poll was answered with anything but messages, or with none after its time */
  check(): void {
    if (this.#failure) throw this.#failure
  }

  /** Hangs up. */
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

/** Resolves when the server has used less than a twentieth of a core for half a second. */
export async function atRest(server: Server): Promise<void> {
  const end = Date.now() + 40_000
  for (;;) {
    const before = processorTime([server.pid])
    await sleep(500)
    if (processorTime([server.pid]) - before < 25_000) return
    if (Date.now() > end) throw new Error('the server does not come to rest')
  }
}
