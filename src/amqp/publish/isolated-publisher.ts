// Messages that may end a whole connection are published over one of their own. Every known version of RabbitMQ (3.10 to 4.3)
// fails to convert a decimal header for a stream, and closes the connection that published it with everything in flight on it.

import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import type { Metrics } from '../../metrics.js'
import { Problem } from '../../problems.js'
import { BrokerConnection, type Login } from '../wire/connection.js'
import type { OutgoingMessage } from '../wire/message.js'
import { isCopiesExchange } from '../wire/reserved.js'
import { ExchangeConfirmChannel } from './confirm-channel.js'

/** AMQP's reply code for an internal error of the broker. */
const INTERNAL_ERROR = 541

export interface PublisherOptions {
  config: Config
  log: Log
  metrics: Metrics
  vhost: string
  /** The RabbitMQ user to publish as; the gateway's own user if absent. */
  login?: Login | undefined
}

/** Publishes risky messages one at a time, over a connection that nothing else uses and that is closed when none is left. */
export class IsolatedPublisher {
  readonly #options: PublisherOptions
  #connection: BrokerConnection | undefined
  /** One message at a time, so that it is known which one made the broker fail. */
  #last: Promise<unknown> = Promise.resolve()
  #queued = 0

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /**
   * Publishes one message, after those that came before it, and waits for its confirm.
   * @returns whether a queue took it; false if the exchange routed it to none
   * @throws Problem invalid_message: RabbitMQ failed over the message, which is not stored; broker_unavailable,
   *   exchange_not_found, access_refused, publish_rejected, publish_outcome_unknown
   */
  publish(message: OutgoingMessage): Promise<boolean> {
    this.#queued++
    const done = this.#last.then(() => this.#publish(message))
    this.#last = done
      .catch(() => undefined)
      .finally(() => {
        if (--this.#queued === 0) void this.close()
      })
    return done
  }

  /** Closes the connection, if there is one. The next message opens another. */
  async close(): Promise<void> {
    const connection = this.#connection
    this.#connection = undefined
    await connection?.close()
  }

  async #publish(message: OutgoingMessage): Promise<boolean> {
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
      const channel = await ExchangeConfirmChannel.open(connection, model, message.exchange, hooks)
      const routed = await channel.publish(message)
      await channel.close()
      return routed
    } catch (error) {
      void this.close()
      // Most named exchanges may have routed it to other queues as well: then nobody knows.
      if (code !== INTERNAL_ERROR || (message.exchange !== '' && !isCopiesExchange(message.exchange))) throw error
      throw new Problem('invalid_message', 'A RabbitMQ stream takes no decimal headers. The message was not stored.', {
        cause: error,
      })
    }
  }
}
