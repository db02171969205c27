// Calls over RabbitMQ's direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to): one reply consumer on a channel of the
// publish connection serves all calls to an exchange, matched by a correlation id of ours.

import { randomBytes } from 'node:crypto'
import type { Config } from '../../config/index.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import { type Channel, type ChannelModel, publishOptions } from '../wire/amqplib.js'
import type { BrokerConnection } from '../wire/connection.js'
import { waitQuietly, within } from '../wire/deadline.js'
import { brokerProblem } from '../wire/errors.js'
import { type Properties, type ReceivedMessage, receivedMessage } from '../wire/message.js'
import { ExchangeChannels } from './exchange-channels.js'

const REPLY_TO = 'amq.rabbitmq.reply-to'

export interface RpcCall {
  exchange: string
  routingKey: string
  body: Buffer
  properties?: Properties
  /** Milliseconds to wait for the reply; also the request's `expiration`, so that nobody works on a request that is given up. */
  timeout: number
}

interface PendingCall {
  channel: Channel
  resolve: (reply: ReceivedMessage) => void
  reject: (problem: Problem) => void
  timer: NodeJS.Timeout
}

const MAX_RPC_CHANNELS = 64

/** Calls and replies over one broker connection. */
export class RpcClient {
  readonly #connection: BrokerConnection
  readonly #config: Config
  readonly #log: Log
  /** A call to a missing exchange closes its channel, and fails every other call on it. */
  readonly #channels = new ExchangeChannels<Channel>({
    hasRoom: (open) => open < this.#maxChannels && this.#connection.hasRoom,
    mayClose: (channel) => channel !== undefined && !this.#isBusy(channel),
    close: (channel) => waitQuietly(this.#config.BROKER_TIMEOUT, channel.close()),
  })
  readonly #pending = new Map<string, PendingCall>()

  constructor(connection: BrokerConnection, config: Config, log: Log) {
    this.#connection = connection
    this.#config = config
    this.#log = log
  }

  /** An eighth of what RabbitMQ allows: the rest is for publishing, and for commands between instances. */
  get #maxChannels(): number {
    return Math.min(MAX_RPC_CHANNELS, Math.ceil(this.#connection.maxChannels / 8))
  }

  /** How many calls wait for their reply. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * Publishes a request and resolves with its reply, whose correlation id is the one that this client made.
   * @throws Problem unroutable (no queue took the request), exchange_not_found, rpc_timeout, broker_blocked, broker_unavailable
   */
  async call({ exchange, routingKey, body, properties, timeout }: RpcCall): Promise<ReceivedMessage> {
    const channel = await this.#open(exchange)
    const id = randomBytes(12).toString('base64url')
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(id, new Problem('rpc_timeout', `No reply came within ${timeout} ms.`)), timeout)
      this.#pending.set(id, { channel, resolve, reject, timer })
      try {
        const ours = { correlationId: id, replyTo: REPLY_TO, expiration: String(timeout) }
        const options = publishOptions({ exchange, routingKey, properties: { ...properties, ...ours } })
        channel.publish(exchange, routingKey, body, options)
      } catch (error) {
        this.#fail(id, brokerProblem(error))
      }
    })
  }

  /** Publishes a reply to a request that came with `replyTo`. Not confirmed: a caller that gets no reply asks again. */
  async reply({ properties: { replyTo, correlationId } }: ReceivedMessage, body: Buffer): Promise<void> {
    if (!replyTo) return
    const channel = await this.#open('')
    channel.publish('', replyTo, body, correlationId === undefined ? {} : { correlationId })
  }

  async #open(exchange: string): Promise<Channel> {
    const model = await this.#connection.ready()
    if (this.#connection.state === 'blocked')
      throw new Problem('broker_blocked', 'RabbitMQ currently accepts no messages: a memory or disk alarm is set.')
    return this.#channels.get(exchange, (closed) => this.#create(model, exchange, closed))
  }

  async #create(model: ChannelModel, exchange: string, closed: () => void): Promise<Channel> {
    const { BROKER_TIMEOUT } = this.#config
    try {
      const channel = await this.#connection.openChannel(model)
      let failure: Error | undefined
      channel.on('error', (error: Error) => {
        failure = error
      })
      channel.on('handler-error' as 'error', (error: Error) => this.#log.error({ err: error }, 'reply callback failed'))
      channel.on('return', (message) => {
        this.#fail(String(message.properties.correlationId), new Problem('unroutable', 'No queue took the request.'))
      })
      channel.on('close', () => {
        closed()
        this.#channelClosed(channel, failure)
      })
      const replied = (reply: ReceivedMessage) => this.#replied(reply)
      const consuming = channel.consume(REPLY_TO, (message) => message && replied(receivedMessage(message)), { noAck: true })
      await within(BROKER_TIMEOUT, 'basic.consume', consuming)
      if (exchange !== '') await within(BROKER_TIMEOUT, 'exchange.declare', channel.checkExchange(exchange))
      return channel
    } catch (error) {
      closed()
      throw brokerProblem(error, 'exchange_not_found')
    }
  }

  /** Only a call that was alone on its channel is known to have caused the close. */
  #channelClosed(channel: Channel, failure: Error | undefined): void {
    const ids = [...this.#pending].filter(([, pending]) => pending.channel === channel).map(([id]) => id)
    const known = ids.length === 1 && failure !== undefined
    const lost = new Problem('broker_unavailable', 'The channel to RabbitMQ closed before a reply came.', { cause: failure })
    for (const id of ids) this.#fail(id, known ? brokerProblem(failure, 'exchange_not_found') : lost)
  }

  #isBusy(channel: Channel): boolean {
    return [...this.#pending.values()].some((pending) => pending.channel === channel)
  }

  #replied(reply: ReceivedMessage): void {
    const id = reply.properties.correlationId ?? ''
    const pending = this.#pending.get(id)
    if (!pending) return // it came after the timeout
    this.#pending.delete(id)
    clearTimeout(pending.timer)
    pending.resolve(reply)
  }

  #fail(id: string, problem: Problem): void {
    const pending = this.#pending.get(id)
    if (!pending) return
    this.#pending.delete(id)
    clearTimeout(pending.timer)
    pending.reject(problem)
  }
}
