// One confirm channel, for one exchange: matches confirms and returns to messages, and knows what is in flight.

import { randomUUID } from 'node:crypto'
import type { Config } from '../../config/index.js'
import { now } from '../../lib/clock.js'
import type { Log } from '../../lib/log.js'
import type { Metrics, PublishOutcome } from '../../metrics.js'
import { Problem } from '../../problems.js'
import { type ChannelModel, type ConfirmChannel, maxPropertiesSize, publishOptions } from '../wire/amqplib.js'
import type { BrokerConnection } from '../wire/connection.js'
import { waitQuietly, within } from '../wire/deadline.js'
import { brokerProblem, DEDUPLICATION_HEADER } from '../wire/errors.js'
import type { OutgoingMessage } from '../wire/message.js'

interface ConfirmChannelHooks {
  config: Config
  metrics: Metrics
  log: Log
  /** The change of bytes in flight. */
  bytes: (change: number) => void
  closed: () => void
}

interface InFlight {
  key: string
  deadline: number
  messageId: string | undefined
  /** A queue may refuse it as a duplicate. */
  isDeduplicated: boolean
  counted: boolean
  done: boolean
  resolve: (routed: boolean) => void
  reject: (problem: Problem) => void
}

const SWEEP_INTERVAL_MS = 100
const COUNTED = { counted: true }

/** A confirm channel for one exchange. */
export class ExchangeConfirmChannel {
  readonly #channel: ConfirmChannel
  readonly #hooks: ConfirmChannelHooks
  /**
   * Returns whose confirm has not come yet. A return carries no delivery tag, so it is matched by exchange, routing key and
   * message id (a copy may have none), and counted, since two messages may share all three. RabbitMQ sends a return before
   * the confirm.
   */
  readonly #returned = new Map<string, number>()
  /** In order of their deadlines, since every publish gets the same time. */
  #waiting: InFlight[] = []
  #inFlight = 0
  #closing = false
  #failure: Error | undefined
  /** Whether a single publish was in flight when RabbitMQ closed the channel, and so must have caused it. */
  #failedAlone = false
  #lastHeard = now()
  #asked = 0
  readonly #sweeper: NodeJS.Timeout

  private constructor(channel: ConfirmChannel, hooks: ConfirmChannelHooks) {
    this.#channel = channel
    this.#hooks = hooks
    channel.on('error', (error: Error) => {
      this.#failure = error
      this.#failedAlone = this.#inFlight === 1
    })
    channel.on('handler-error' as 'error', (error: Error) => hooks.log.error({ err: error }, 'publish callback failed'))
    channel.on('return', (message) => {
      const key = returnKey(message.fields.exchange, message.fields.routingKey, message.properties.messageId)
      this.#returned.set(key, (this.#returned.get(key) ?? 0) + 1)
    })
    channel.on('close', () => {
      clearInterval(this.#sweeper)
      hooks.closed()
    })
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS)
  }

  /**
   * Opens the channel and looks a named exchange up on it: if it does not exist, only this channel closes.
   * @throws Problem exchange_not_found, access_refused, broker_unavailable, broker_timeout, too_many_waiters
   */
  static async open(
    connection: BrokerConnection,
    model: ChannelModel,
    exchange: string,
    hooks: ConfirmChannelHooks,
  ): Promise<ExchangeConfirmChannel> {
    const { BROKER_TIMEOUT } = hooks.config
    try {
      const channel = await connection.openConfirmChannel(model)
      const opened = new ExchangeConfirmChannel(channel, hooks)
      if (exchange !== '') await within(BROKER_TIMEOUT, 'exchange.declare', channel.checkExchange(exchange))
      return opened
    } catch (error) {
      throw brokerProblem(error, 'exchange_not_found')
    }
  }

  /** Whether it is closed, or will be once nothing is in flight. */
  get isClosing(): boolean {
    return this.#closing
  }

  /** Milliseconds since the unanswered probe; 0 if there is none. */
  get silentFor(): number {
    return this.#asked > this.#lastHeard ? now() - this.#asked : 0
  }

  /**
   * Publishes a message with `mandatory`, and resolves with its confirm: whether a queue took it. Of a direct reply it is not
   * known, and true.
   * @throws Problem publish_rejected, publish_refused: nacked; publish_outcome_unknown: no confirm within PUBLISH_TIMEOUT, or the
   *   channel closed; exchange_not_found, access_refused, invalid_message, message_too_large, broker_unavailable: not stored
   */
  publish(message: OutgoingMessage, { counted }: { counted: boolean } = COUNTED): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const { exchange, routingKey, properties, encoded, body } = message
      if (encoded && encoded.length > maxPropertiesSize(this.#channel)) {
        reject(new Problem('invalid_message', 'The headers of the message do not fit into a frame. The message was not stored.'))
        return
      }
      const entry: InFlight = {
        key: returnKey(exchange, routingKey, properties.messageId),
        deadline: now() + this.#hooks.config.PUBLISH_TIMEOUT,
        messageId: properties.messageId,
        isDeduplicated: properties.headers?.[DEDUPLICATION_HEADER] !== undefined,
        counted,
        done: false,
        resolve,
        reject,
      }
      try {
        this.#channel.publish(exchange, routingKey, body, publishOptions(message), (error) => {
          this.#inFlight--
          this.#hooks.bytes(-body.length)
          if (!error) this.#lastHeard = now()
          this.#confirmed(entry, error as Error | null)
        })
      } catch (error) {
        reject(this.#notWritten(error as Error))
        return
      }
      this.#inFlight++
      this.#hooks.bytes(body.length)
      this.#waiting.push(entry)
    })
  }

  /** Publishes a byte that goes nowhere if no confirm came for `quiet` milliseconds, to see whether RabbitMQ still answers. */
  probe(quiet: number): void {
    const time = now()
    if (this.#asked > this.#lastHeard || time - this.#lastHeard < quiet) return
    this.#asked = time
    try {
      this.#channel.publish('', `gateway.canary.${randomUUID()}`, Buffer.from('?'), {}, (error) => {
        if (!error) this.#lastHeard = now()
      })
    } catch {
      // the connection is closing, which its own event tells
    }
  }

  /** Closes the channel once nothing is in flight, after at most PUBLISH_TIMEOUT. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    const { PUBLISH_TIMEOUT, BROKER_TIMEOUT } = this.#hooks.config
    await waitQuietly(PUBLISH_TIMEOUT, this.#channel.waitForConfirms())
    try {
      await waitQuietly(BROKER_TIMEOUT, this.#channel.close())
    } catch {
      // it is closed already
    }
  }

  #confirmed(entry: InFlight, error: Error | null): void {
    const returned = this.#returned.size > 0 && this.#takeReturn(entry.key)
    if (entry.done) return
    entry.done = true
    if (error === null) {
      this.#count(entry, returned ? 'unroutable' : 'confirmed')
      entry.resolve(!returned)
    } else if (error.message === 'message nacked') {
      this.#count(entry, 'rejected')
      entry.reject(nacked(entry))
    } else {
      this.#channelClosed(entry)
    }
  }

  /** Only a publish that was alone in flight is known to have closed the channel, and so not to be stored. */
  #channelClosed(entry: InFlight): void {
    const code = (this.#failure as { code?: number } | undefined)?.code
    const alone = this.#failedAlone
    if (alone && (code === 403 || code === 404)) {
      this.#count(entry, 'refused')
      entry.reject(brokerProblem(this.#failure, 'exchange_not_found'))
    } else if (alone && code === 406) {
      this.#count(entry, 'refused')
      const cause = this.#failure
      const tooLarge = /message size|larger than/.test(cause?.message ?? '')
      entry.reject(
        tooLarge
          ? new Problem('message_too_large', 'RabbitMQ refused the message: it is larger than its own limit.', { cause })
          : new Problem('invalid_message', brokerProblem(cause).message, { cause }),
      )
    } else {
      this.#count(entry, 'unknown')
      entry.reject(publishOutcomeUnknown(entry, 'the channel to RabbitMQ closed before its confirm came'))
    }
  }

  #count({ counted }: InFlight, outcome: PublishOutcome): void {
    if (counted) this.#hooks.metrics.published(outcome)
  }

  #takeReturn(key: string): boolean {
    const count = this.#returned.get(key)
    if (!count) return false
    if (count === 1) this.#returned.delete(key)
    else this.#returned.set(key, count - 1)
    return true
  }

  #notWritten(error: Error): Problem {
    const problem = brokerProblem(error)
    // A message that amqplib cannot encode never reached the wire. The validator should have refused it.
    return problem.code === 'internal_error' ? new Problem('invalid_message', error.message, { cause: error }) : problem
  }

  #sweep(): void {
    const time = now()
    let expired = 0
    for (const entry of this.#waiting) {
      if (!entry.done) {
        if (entry.deadline > time) break
        entry.done = true
        this.#count(entry, 'unknown')
        entry.reject(publishOutcomeUnknown(entry, 'no confirm came in time'))
      }
      expired++
    }
    if (expired > 0) this.#waiting = this.#waiting.slice(expired)
  }
}

/** RabbitMQ does not say why it nacks a message. */
function nacked(entry: InFlight): Problem {
  const options = { extra: messageIdOf(entry) }
  const full =
    'A queue is full (with x-overflow reject-publish-dlx the message is now among its dead letters) or has lost its quorum. Other queues may have the message.'
  if (!entry.isDeduplicated) return new Problem('publish_rejected', `RabbitMQ nacked the message. ${full}`, options)
  const detail = `RabbitMQ nacked the message, which has the header ${DEDUPLICATION_HEADER}: a queue has refused it as a duplicate of one that it has, and would do so again. Or: ${full}`
  return new Problem('publish_refused', detail, options)
}

function publishOutcomeUnknown(entry: InFlight, why: string): Problem {
  const again = `Publish it again with the same message id ${entry.messageId}.`
  return new Problem('publish_outcome_unknown', `The message may or may not be in the queue: ${why}. ${again}`, {
    extra: messageIdOf(entry),
  })
}

const messageIdOf = ({ messageId }: InFlight): { message_id?: string } =>
  messageId === undefined ? {} : { message_id: messageId }

function returnKey(exchange: string, routingKey: string, messageId: string | undefined): string {
  return `${exchange}\0${routingKey}\0${messageId}`
}
