// Calls over RabbitMQ's direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to): one reply consumer on one channel
// of the publish connection serves all calls, matched by a correlation id of our own.

import { randomBytes } from 'node:crypto'
import type { Config } from '../config.js'
import type { Log } from '../log.js'
import { Problem } from '../problems.js'
import type { Channel, ConsumeMessage } from './amqplib.js'
import type { BrokerConnection } from './connection.js'
import { within } from './deadline.js'
import type { Properties } from './message.js'

const REPLY_TO = 'amq.rabbitmq.reply-to'

export interface Call {
  exchange: string
  routingKey: string
  body: Buffer
  properties?: Properties
  /** Milliseconds until the reply counts as lost; also the request's `expiration`, so that nobody does dead work. */
  timeout: number
}

interface Pending {
  resolve: (reply: ConsumeMessage) => void
  reject: (problem: Problem) => void
  timer: NodeJS.Timeout
}

export class RpcClient {
  readonly #connection: BrokerConnection
  readonly #config: Config
  readonly #log: Log
  #channel: Promise<Channel> | undefined
  readonly #pending = new Map<string, Pending>()

  constructor(connection: BrokerConnection, config: Config, log: Log) {
    this.#connection = connection
    this.#config = config
    this.#log = log
  }

  /**
   * Publishes a request and resolves with its reply.
   * @throws Problem unroutable (no queue took the request), rpc_timeout, broker_blocked, broker_unavailable
   */
  async call({ exchange, routingKey, body, properties, timeout }: Call): Promise<ConsumeMessage> {
    const channel = await this.#open()
    const id = randomBytes(12).toString('base64url')
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(id, new Problem('rpc_timeout', `No reply came within ${timeout} ms.`)), timeout)
      this.#pending.set(id, { resolve, reject, timer })
      try {
        channel.publish(exchange, routingKey, body, {
          ...properties,
          correlationId: id,
          replyTo: REPLY_TO,
          expiration: String(timeout),
          mandatory: true,
        } as object)
      } catch (error) {
        this.#fail(id, new Problem('broker_unavailable', 'The connection to RabbitMQ was lost.', { cause: error }))
      }
    })
  }

  /** Sends a reply to a request that came with `replyTo`. Not confirmed: a caller that gets none asks again. */
  async reply(request: ConsumeMessage, body: Buffer): Promise<void> {
    const { replyTo, correlationId } = request.properties
    if (!replyTo) return
    const channel = await this.#open()
    channel.publish('', replyTo, body, { correlationId })
  }

  #open(): Promise<Channel> {
    const model = this.#connection.model()
    if (this.#connection.state === 'blocked') throw new Problem('broker_blocked', 'RabbitMQ accepts no messages just now.')
    if (this.#channel) return this.#channel
    const opening = within(this.#config.BROKER_TIMEOUT, 'channel.open', model.createChannel()).then(async (channel) => {
      channel.on('error', (error: Error) => this.#log.warn({ err: error }, 'the reply channel failed'))
      channel.on('handler-error' as 'error', (error: Error) => this.#log.error({ err: error }, 'a reply callback failed'))
      channel.on('return', (message) => {
        const id = message.properties.correlationId
        this.#fail(String(id), new Problem('unroutable', 'No queue took the request.'))
      })
      channel.on('close', () => {
        if (this.#channel === opening) this.#channel = undefined
        const problem = new Problem('broker_unavailable', 'The connection to RabbitMQ was lost before a reply came.')
        for (const id of [...this.#pending.keys()]) this.#fail(id, problem)
      })
      const consuming = channel.consume(REPLY_TO, (message) => message && this.#replied(message), { noAck: true })
      await within(this.#config.BROKER_TIMEOUT, 'basic.consume', consuming)
      return channel
    })
    this.#channel = opening
    opening.catch(() => {
      if (this.#channel === opening) this.#channel = undefined
    })
    return opening.catch((error) => {
      throw error instanceof Problem
        ? error
        : new Problem('broker_unavailable', 'The connection to RabbitMQ was lost.', { cause: error })
    })
  }

  #replied(message: ConsumeMessage): void {
    const pending = this.#pending.get(message.properties.correlationId)
    if (!pending) return // it came too late
    this.#pending.delete(message.properties.correlationId)
    clearTimeout(pending.timer)
    pending.resolve(message)
  }

  #fail(id: string, problem: Problem): void {
    const pending = this.#pending.get(id)
    if (!pending) return
    this.#pending.delete(id)
    clearTimeout(pending.timer)
    pending.reject(problem)
  }
}
