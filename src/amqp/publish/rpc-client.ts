// Calls over RabbitMQ's direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to): one reply consumer on one channel
// of the publish connection serves all calls, matched by a correlation id of our own.

import { randomBytes } from 'node:crypto'
import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import type { Channel, ChannelModel, ConsumeMessage } from '../wire/amqplib.js'
import type { BrokerConnection } from '../wire/connection.js'
import { waitQuietly, within } from '../wire/deadline.js'
import { brokerProblem } from '../wire/errors.js'
import type { Properties } from '../wire/message.js'

const REPLY_TO = 'amq.rabbitmq.reply-to'

export interface RpcCall {
  exchange: string
  routingKey: string
  body: Buffer
  properties?: Properties
  /** Milliseconds until the reply counts as lost; also the request's `expiration`, so that nobody does dead work. */
  timeout: number
}

interface PendingCall {
  channel: Channel
  resolve: (reply: ConsumeMessage) => void
  reject: (problem: Problem) => void
  timer: NodeJS.Timeout
}

const MAX_RPC_CHANNELS = 64

export class RpcClient {
  readonly #connection: BrokerConnection
  readonly #config: Config
  readonly #log: Log
  /** By exchange: a call to one that is missing closes its channel, and every call under way on it. */
  readonly #channels = new Map<string, Promise<Channel>>()
  readonly #pending = new Map<string, PendingCall>()

  constructor(connection: BrokerConnection, config: Config, log: Log) {
    this.#connection = connection
    this.#config = config
    this.#log = log
  }

  /** Calls that wait for their reply. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * Publishes a request and resolves with its reply.
   * @throws Problem unroutable (no queue took the request), exchange_not_found, rpc_timeout, broker_blocked, broker_unavailable
   */
  async call({ exchange, routingKey, body, properties, timeout }: RpcCall): Promise<ConsumeMessage> {
    const channel = await this.#open(exchange)
    const id = randomBytes(12).toString('base64url')
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(id, new Problem('rpc_timeout', `No reply came within ${timeout} ms.`)), timeout)
      this.#pending.set(id, { channel, resolve, reject, timer })
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
    const channel = await this.#open('')
    channel.publish('', replyTo, body, { correlationId })
  }

  async #open(exchange: string): Promise<Channel> {
    const model = await this.#connection.ready()
    if (this.#connection.state === 'blocked') throw new Problem('broker_blocked', 'RabbitMQ accepts no messages just now.')
    const open = this.#channels.get(exchange)
    if (open) return open
    if (this.#channels.size >= MAX_RPC_CHANNELS) this.#evict()
    const opening = this.#create(model, exchange, () => {
      if (this.#channels.get(exchange) === opening) this.#channels.delete(exchange)
    })
    this.#channels.set(exchange, opening)
    return opening
  }

  async #create(model: ChannelModel, exchange: string, closed: () => void): Promise<Channel> {
    const { BROKER_TIMEOUT } = this.#config
    try {
      const channel = await within(BROKER_TIMEOUT, 'channel.open', model.createChannel())
      let failure: Error | undefined
      channel.on('error', (error: Error) => {
        failure = error
      })
      channel.on('handler-error' as 'error', (error: Error) => this.#log.error({ err: error }, 'a reply callback failed'))
      channel.on('return', (message) => {
        this.#fail(String(message.properties.correlationId), new Problem('unroutable', 'No queue took the request.'))
      })
      channel.on('close', () => {
        closed()
        this.#channelClosed(channel, failure)
      })
      const consuming = channel.consume(REPLY_TO, (message) => message && this.#replied(message), { noAck: true })
      await within(BROKER_TIMEOUT, 'basic.consume', consuming)
      if (exchange !== '') await within(BROKER_TIMEOUT, 'exchange.declare', channel.checkExchange(exchange))
      return channel
    } catch (error) {
      closed()
      throw brokerProblem(error, 'exchange_not_found')
    }
  }

  /** Only where one call alone was under way is it known whose the fault was. */
  #channelClosed(channel: Channel, failure: Error | undefined): void {
    const ids = [...this.#pending].filter(([, pending]) => pending.channel === channel).map(([id]) => id)
    const known = ids.length === 1 && failure !== undefined
    const lost = new Problem('broker_unavailable', 'The channel to RabbitMQ closed before a reply came.', { cause: failure })
    for (const id of ids) this.#fail(id, known ? brokerProblem(failure, 'exchange_not_found') : lost)
  }

  #evict(): void {
    const oldest = [...this.#channels.keys()].find((exchange) => exchange !== '')
    if (oldest === undefined) return
    const opening = this.#channels.get(oldest)
    this.#channels.delete(oldest)
    const close = (channel: Channel) => {
      const busy = [...this.#pending.values()].some((pending) => pending.channel === channel)
      if (busy) setTimeout(() => close(channel), 1000)
      else void waitQuietly(this.#config.BROKER_TIMEOUT, channel.close())
    }
    opening?.then(close, () => undefined)
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
