// Messages over which RabbitMQ may break down get a connection of their own to lose: converting a decimal header for a stream
// fails in every version we know (3.10 to 4.3), and ends the connection that published it with everything in flight there.

import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import type { Metrics } from '../../metrics.js'
import { Problem } from '../../problems.js'
import { BrokerConnection, type Login } from '../wire/connection.js'
import type { PublishMessage } from '../wire/message.js'
import { ExchangeConfirmChannel } from './confirm-channel.js'

export interface PublisherOptions {
  config: Config
  log: Log
  metrics: Metrics
  vhost: string
  login?: Login | undefined
}

export class IsolatedPublisher {
  readonly #options: PublisherOptions
  #connection: BrokerConnection | undefined
  /** One at a time, so that it is known which one the broker failed over. */
  #last: Promise<unknown> = Promise.resolve()
  #queued = 0

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /**
   * Publishes one message, after those that came before it.
   * @returns whether a queue took it
   * @throws as Publisher.publish(), and Problem invalid_message: the broker failed over it, and it is not stored
   */
  publish(message: PublishMessage): Promise<boolean> {
    this.#queued++
    const done = this.#last.then(() => this.#publish(message))
    this.#last = done
      .catch(() => undefined)
      .finally(() => {
        if (--this.#queued === 0) void this.close()
      })
    return done
  }

  async close(): Promise<void> {
    const connection = this.#connection
    this.#connection = undefined
    await connection?.close()
  }

  async #publish(message: PublishMessage): Promise<boolean> {
    const { config, log, metrics } = this.#options
    this.#connection ??= new BrokerConnection({ ...this.#options, role: 'publish' })
    const connection = this.#connection
    let code: number | undefined
    try {
      const model = await connection.ready()
      model.once('error', (error: { code?: number }) => {
        code = error.code
      })
      const hooks = { config, metrics, log, bytes: () => undefined, closed: () => undefined }
      const channel = await ExchangeConfirmChannel.open(model, message.exchange, hooks)
      const routed = await channel.publish(message)
      await channel.close()
      return routed
    } catch (error) {
      void this.close()
      // Through a named exchange another queue may have it.
      if (code !== 541 || message.exchange !== '') throw error
      throw new Problem('invalid_message', 'A RabbitMQ stream takes no decimal headers. The message was not stored.', {
        cause: error,
      })
    }
  }
}
