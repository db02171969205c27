// Queues, exchanges and bindings. Every call has a scratch channel, since a failed call closes its channel. A call that may end
// the connection goes over a separate one, or looks its names up first.

import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../config/index.js'
import { now } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { Problem } from '../problems.js'
import { QueueTypes } from './consume/queue-types.js'
import type { Channel } from './wire/amqplib.js'
import { BrokerConnection, type Login } from './wire/connection.js'
import { areSafeBindArguments, areSafeDeclareArguments, breaksErrorText, textsIn } from './wire/crash-guards.js'
import { waitQuietly, within } from './wire/deadline.js'
import { brokerProblem, channelsUsedUp, streamQueueProblem } from './wire/errors.js'
import type { FieldTable } from './wire/field-table.js'

export interface QueueDeclaration {
  durable: boolean
  autoDelete: boolean
  arguments: FieldTable
}

export interface ExchangeDeclaration extends QueueDeclaration {
  type: string
  internal: boolean
}

export interface Binding {
  source: string
  destination: string
  routingKey: string
  arguments: FieldTable
}

/** Between looks whether a channel was closed, if all that RabbitMQ allows are open. */
const ROOM_POLL_INTERVAL_MS = 10
interface TopologyOptions {
  config: Config
  log: Log
  vhost: string
  login?: Login | undefined
  /** Called after a queue was purged or deleted. */
  onEmptied?: (queue: string) => void
}

const STANDARD_TYPES = ['direct', 'fanout', 'topic', 'headers']

/** Declares, looks up, binds and deletes in one vhost. */
export class Topology {
  readonly connection: BrokerConnection
  readonly queueTypes = new QueueTypes(
    (queue, work) => this.#call([queue], 'basic.consume', work),
    (queue) => this.lookUpQueue(queue),
  )
  /** Calls that run on the connection. */
  #running = 0
  readonly #options: TopologyOptions

  constructor(options: TopologyOptions) {
    this.#options = options
    this.connection = new BrokerConnection({ ...options, role: 'admin' })
  }

  /**
   * Declares a queue.
   * @returns whether the queue is new
   * @throws Problem precondition_failed (it exists with other properties), invalid_request, access_refused, resource_locked
   */
  async declareQueue(name: string, { durable, autoDelete, arguments: args }: QueueDeclaration): Promise<boolean> {
    const exists = await this.#exists(() => this.lookUpQueue(name), 'queue_not_found')
    this.queueTypes.forget(name)
    await this.#call(
      [name, ...textsIn(args)],
      'queue.declare',
      (channel) => channel.assertQueue(name, { durable, autoDelete, arguments: args }),
      // RabbitMQ 4.3 and later may end the connection over a queue that is neither durable nor exclusive.
      { safe: durable && areSafeDeclareArguments(args) },
    )
    return !exists
  }

  /** Looks a queue up, with its counts of ready messages and of consumers. @throws Problem queue_not_found, resource_locked */
  async lookUpQueue(name: string): Promise<{ messageCount: number; consumerCount: number }> {
    return this.#call([name], 'queue.declare', (channel) => channel.checkQueue(name), { missing: 'queue_not_found' })
  }

  /**
   * Whether the queue's own arguments give it a dead-letter exchange; undefined if RabbitMQ does not tell. It may have one by a
   * policy of RabbitMQ as well, which AMQP never tells. Never rejects.
   *
   * AMQP has no question for it, but a declaration with other arguments is refused with an error that names the first one that
   * differs. The exchange is compared before the routing key. Without an exchange a routing key is invalid, so that the
   * declaration never makes a queue.
   */
  async hasDeadLetters(name: string): Promise<boolean | undefined> {
    try {
      const type = await this.queueTypes.currentType(name)
      const args = { 'x-queue-type': type, 'x-dead-letter-routing-key': randomUUID() }
      await this.#call([name], 'queue.declare', (channel) => channel.assertQueue(name, { durable: true, arguments: args }))
    } catch (error) {
      const differs =
        error instanceof Problem ? /^Inequivalent arg '(x-dead-letter-[a-z-]+)'/.exec(error.message)?.[1] : undefined
      if (differs === 'x-dead-letter-exchange') return true
      if (differs === 'x-dead-letter-routing-key') return false
    }
    return undefined
  }

  /** Deletes a queue, if it exists. @throws Problem precondition_failed: it is in use, or not empty */
  async deleteQueue(name: string, conditions: { ifUnused: boolean; ifEmpty: boolean }): Promise<void> {
    if (conditions.ifUnused || conditions.ifEmpty) await this.#checkConditional(name)
    this.queueTypes.forget(name)
    await this.#call([name], 'queue.delete', (channel) => channel.deleteQueue(name, conditions))
    this.#options.onEmptied?.(name)
  }

  /** Drops the ready messages of a queue. @returns how many there were. @throws Problem stream_queue, queue_not_found */
  async purgeQueue(name: string): Promise<number> {
    // RabbitMQ closes the connection that purges a stream.
    if ((await this.queueTypes.currentType(name)) === 'stream') throw streamQueueProblem()
    const { messageCount } = await this.#call([name], 'queue.purge', (channel) => channel.purgeQueue(name))
    this.#options.onEmptied?.(name)
    return messageCount
  }

  /** Declares an exchange. @returns whether it is new. @throws Problem precondition_failed, invalid_request, access_refused */
  async declareExchange(name: string, declaration: ExchangeDeclaration): Promise<boolean> {
    const { type, durable, autoDelete, internal, arguments: args } = declaration
    const exists = await this.#exists(() => this.lookUpExchange(name), 'exchange_not_found')
    const declare = (channel: Channel) => channel.assertExchange(name, type, { durable, autoDelete, internal, arguments: args })
    // RabbitMQ 3 closes the connection over an unknown type.
    const safe = STANDARD_TYPES.includes(type) && areSafeDeclareArguments(args)
    await this.#call([name, type, ...textsIn(args)], 'exchange.declare', declare, { safe })
    return !exists
  }

  /** Looks an exchange up. @throws Problem exchange_not_found */
  async lookUpExchange(name: string): Promise<void> {
    if (name === '') return // the default exchange always exists, and RabbitMQ refuses to look it up
    await this.#call([name], 'exchange.declare', (channel) => channel.checkExchange(name), { missing: 'exchange_not_found' })
  }

  /** Deletes an exchange, if it exists. @throws Problem precondition_failed: it is in use */
  async deleteExchange(name: string, conditions: { ifUnused: boolean }): Promise<void> {
    const remove = (channel: Channel) => channel.deleteExchange(name, conditions)
    await this.#call([name], 'exchange.delete', remove, { missing: 'exchange_not_found' })
  }

  /** Binds a queue or an exchange. @throws Problem queue_not_found, exchange_not_found, access_refused (the default exchange) */
  async bind(to: 'queue' | 'exchange', { source, destination, routingKey, arguments: args }: Binding): Promise<void> {
    const bind = (channel: Channel): Promise<unknown> =>
      to === 'queue'
        ? channel.bindQueue(destination, source, routingKey, args)
        : channel.bindExchange(destination, source, routingKey, args)
    await this.#call([destination, source, routingKey, ...textsIn(args)], 'bind', bind, { safe: areSafeBindArguments(args) })
  }

  /** Removes a binding, if it exists. @throws Problem access_refused, and in old versions queue_not_found, exchange_not_found */
  async unbind(to: 'queue' | 'exchange', { source, destination, routingKey, arguments: args }: Binding): Promise<void> {
    const unbind = (channel: Channel): Promise<unknown> =>
      to === 'queue'
        ? channel.unbindQueue(destination, source, routingKey, args)
        : channel.unbindExchange(destination, source, routingKey, args)
    await this.#call([destination, source, routingKey, ...textsIn(args)], 'unbind', unbind, { safe: areSafeBindArguments(args) })
  }

  /** Closes the connection. */
  async close(): Promise<void> {
    await this.connection.close()
  }

  /** RabbitMQ closes the connection over conditions on a quorum queue, and ignores conditions on a stream. */
  async #checkConditional(name: string): Promise<void> {
    const type = await this.queueTypes.currentType(name).catch((error) => {
      if (error instanceof Problem && error.code === 'queue_not_found') return 'classic' as const
      throw error
    })
    if (type === 'classic') return
    const detail = `RabbitMQ cannot delete a ${type} queue on the condition that it is unused or empty. It was not deleted.`
    throw new Problem('precondition_failed', detail)
  }

  async #exists(look: () => Promise<unknown>, missing: Problem['code']): Promise<boolean> {
    try {
      await look()
      return true
    } catch (error) {
      if (error instanceof Problem && error.code === missing) return false
      // The declare itself tells whether it is allowed, and whether the properties match.
      if (error instanceof Problem && error.code === 'access_refused') return true
      throw error
    }
  }

  /**
   * Runs `work` on a scratch channel, over a separate connection if it may end the connection.
   * @param names the names that an error's text may contain
   * @param options.missing what a 404 means if RabbitMQ's text does not tell
   */
  async #call<T>(
    names: string[],
    what: string,
    work: (channel: Channel) => Promise<T>,
    { safe = true, missing }: { safe?: boolean; missing?: 'queue_not_found' | 'exchange_not_found' } = {},
  ): Promise<T> {
    const speakable = !breaksErrorText(this.#options.vhost, ...names)
    if (safe && speakable) return this.#onScratchChannel(what, work, missing)
    const other = new Topology(this.#options)
    try {
      return await other.#onScratchChannel(what, work, missing)
    } catch (error) {
      // RabbitMQ failed to write its own error text, which for a look-up says that the thing does not exist.
      const broken = !speakable && error instanceof Problem && error.code === 'invalid_request'
      if (broken && missing) throw new Problem(missing, `There is no '${names[0]}' in vhost '${this.#options.vhost}'.`)
      throw error
    } finally {
      void other.close()
    }
  }

  /** Runs declarations and look-ups of the gateway itself, one after the other on one channel. @throws Problem */
  setUp(what: string, work: (channel: Channel) => Promise<void>): Promise<void> {
    return this.#onScratchChannel(what, work)
  }

  async #onScratchChannel<T>(
    what: string,
    work: (channel: Channel) => Promise<T>,
    missing?: 'queue_not_found' | 'exchange_not_found',
  ): Promise<T> {
    const { BROKER_TIMEOUT } = this.#options.config
    const model = await this.connection.ready()
    await this.#waitForRoom()
    let connectionError: unknown
    const note = (error: unknown) => {
      connectionError = this.#running > 1 ? this.connection.lost(error) : error // with others it is not known whose fault it is
    }
    model.once('error', note)
    this.#running++
    try {
      const channel = await this.connection.openChannel(model)
      channel.on('error', () => undefined) // the call's own rejection says the same
      try {
        return await within(BROKER_TIMEOUT, what, work(channel))
      } finally {
        void waitQuietly(BROKER_TIMEOUT, closeChannel(channel))
      }
    } catch (error) {
      throw brokerProblem(connectionError ?? error, missing)
    } finally {
      this.#running--
      model.off('error', note)
    }
  }

  /** Waits until RabbitMQ takes one channel more. @throws Problem too_many_waiters: it does not within BROKER_TIMEOUT */
  async #waitForRoom(): Promise<void> {
    const end = now() + this.#options.config.BROKER_TIMEOUT
    while (!this.connection.hasRoom) {
      this.connection.model() // throws once the connection is lost
      if (now() > end) throw channelsUsedUp()
      await sleep(ROOM_POLL_INTERVAL_MS)
    }
  }
}

async function closeChannel(channel: Channel): Promise<void> {
  await channel.close()
}
