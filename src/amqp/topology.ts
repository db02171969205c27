// Queues, exchanges and bindings. Every call has a scratch channel, since a failed one closes its channel; what would close
// the connection goes over a connection of its own or is looked up first.

import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import { Problem } from '../problems.js'
import { QueueTypes } from './consume/queue-types.js'
import type { Channel } from './wire/amqplib.js'
import { BrokerConnection, type Login } from './wire/connection.js'
import { areSafeBindArguments, areSafeDeclareArguments, breaksErrorText, textsIn } from './wire/crash-guards.js'
import { waitQuietly, within } from './wire/deadline.js'
import { brokerProblem, streamQueueProblem } from './wire/errors.js'
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

const STANDARD_TYPES = ['direct', 'fanout', 'topic', 'headers']

export class Topology {
  readonly connection: BrokerConnection
  readonly queueTypes = new QueueTypes(
    (queue, work) => this.#call([queue], 'basic.consume', work),
    (queue) => this.lookUpQueue(queue),
  )
  readonly #options: { config: Config; log: Log; vhost: string; login?: Login | undefined }

  constructor(options: { config: Config; log: Log; vhost: string; login?: Login | undefined }) {
    this.#options = options
    this.connection = new BrokerConnection({ ...options, role: 'admin' })
  }

  /** @returns whether the queue is new. @throws Problem precondition_failed where there is a different one of that name. */
  async declareQueue(name: string, { durable, autoDelete, arguments: args }: QueueDeclaration): Promise<boolean> {
    const exists = await this.#exists(() => this.lookUpQueue(name), 'queue_not_found')
    this.queueTypes.forget(name)
    await this.#call(
      [name, ...textsIn(args)],
      'queue.declare',
      (channel) => channel.assertQueue(name, { durable, autoDelete, arguments: args }),
      { safe: areSafeDeclareArguments(args) },
    )
    return !exists
  }

  /** @throws Problem queue_not_found, resource_locked */
  async lookUpQueue(name: string): Promise<{ messageCount: number; consumerCount: number }> {
    return this.#call([name], 'queue.declare', (channel) => channel.checkQueue(name), { missing: 'queue_not_found' })
  }

  /** Deletes a queue; one that is not there is deleted already. @throws Problem precondition_failed: in use, or not empty */
  async deleteQueue(name: string, conditions: { ifUnused: boolean; ifEmpty: boolean }): Promise<void> {
    if (conditions.ifUnused || conditions.ifEmpty) await this.#checkConditional(name)
    this.queueTypes.forget(name)
    await this.#call([name], 'queue.delete', (channel) => channel.deleteQueue(name, conditions))
  }

  /** @returns how many messages were dropped. @throws Problem stream_queue, queue_not_found */
  async purgeQueue(name: string): Promise<number> {
    // RabbitMQ closes the connection that purges a stream.
    if ((await this.queueTypes.currentType(name)) === 'stream') throw streamQueueProblem()
    return (await this.#call([name], 'queue.purge', (channel) => channel.purgeQueue(name))).messageCount
  }

  /** @returns whether the exchange is new. @throws Problem precondition_failed */
  async declareExchange(name: string, declaration: ExchangeDeclaration): Promise<boolean> {
    const { type, durable, autoDelete, internal, arguments: args } = declaration
    const exists = await this.#exists(() => this.lookUpExchange(name), 'exchange_not_found')
    const declare = (channel: Channel) => channel.assertExchange(name, type, { durable, autoDelete, internal, arguments: args })
    // RabbitMQ 3 closes the connection over a type that it has no plugin for.
    const safe = STANDARD_TYPES.includes(type) && areSafeDeclareArguments(args)
    await this.#call([name, type, ...textsIn(args)], 'exchange.declare', declare, { safe })
    return !exists
  }

  /** @throws Problem exchange_not_found */
  async lookUpExchange(name: string): Promise<void> {
    if (name === '') return // the default exchange is always there, and may not be asked for
    await this.#call([name], 'exchange.declare', (channel) => channel.checkExchange(name), { missing: 'exchange_not_found' })
  }

  async deleteExchange(name: string, conditions: { ifUnused: boolean }): Promise<void> {
    const remove = (channel: Channel) => channel.deleteExchange(name, conditions)
    await this.#call([name], 'exchange.delete', remove, { missing: 'exchange_not_found' })
  }

  /** @throws Problem queue_not_found, exchange_not_found, access_refused (the default exchange) */
  async bind(to: 'queue' | 'exchange', { source, destination, routingKey, arguments: args }: Binding): Promise<void> {
    const bind = (channel: Channel): Promise<unknown> =>
      to === 'queue'
        ? channel.bindQueue(destination, source, routingKey, args)
        : channel.bindExchange(destination, source, routingKey, args)
    await this.#call([destination, source, routingKey, ...textsIn(args)], 'bind', bind, { safe: areSafeBindArguments(args) })
  }

  /** @throws as bind(), where the broker says so: since 3.x it is satisfied when there is nothing to unbind */
  async unbind(to: 'queue' | 'exchange', { source, destination, routingKey, arguments: args }: Binding): Promise<void> {
    const unbind = (channel: Channel): Promise<unknown> =>
      to === 'queue'
        ? channel.unbindQueue(destination, source, routingKey, args)
        : channel.unbindExchange(destination, source, routingKey, args)
    await this.#call([destination, source, routingKey, ...textsIn(args)], 'unbind', unbind, { safe: areSafeBindArguments(args) })
  }

  async close(): Promise<void> {
    await this.connection.close()
  }

  /** The broker closes the connection over conditions on a quorum queue, and deletes a stream whatever they say. */
  async #checkConditional(name: string): Promise<void> {
    const type = await this.queueTypes.currentType(name).catch((error) => {
      if (error instanceof Problem && error.code === 'queue_not_found') return 'classic' as const
      throw error
    })
    if (type === 'classic') return
    const detail = `RabbitMQ can't tell in one step whether a ${type} queue is unused or empty, and delete it: it was not deleted.`
    throw new Problem('precondition_failed', detail)
  }

  async #exists(look: () => Promise<unknown>, missing: Problem['code']): Promise<boolean> {
    try {
      await look()
      return true
    } catch (error) {
      if (error instanceof Problem && error.code === missing) return false
      // Whether it may be declared, and is alike, is for the declare itself to say.
      if (error instanceof Problem && error.code === 'access_refused') return true
      throw error
    }
  }

  /**
   * Runs `work` on a scratch channel. What may end its connection gets one of its own to lose.
   * @param names what an error's text may name
   * @param options.missing what a 404 means where the broker's text doesn't say
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
      // The broker broke down over its own words, which for a look-up are that there is nothing.
      const broken = !speakable && error instanceof Problem && error.code === 'invalid_request'
      if (broken && missing) throw new Problem(missing, `There is no '${names[0]}' in vhost '${this.#options.vhost}'.`)
      throw error
    } finally {
      void other.close()
    }
  }

  /** Declarations of the gateway's own, one after the other on one channel. @throws Problem */
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
    let connectionError: unknown
    const note = (error: unknown) => {
      connectionError = error
    }
    model.once('error', note)
    try {
      const channel = await within(BROKER_TIMEOUT, 'channel.open', model.createChannel())
      channel.on('error', () => undefined) // the call's own rejection says the same
      try {
        return await within(BROKER_TIMEOUT, what, work(channel))
      } finally {
        void waitQuietly(BROKER_TIMEOUT, closeChannel(channel))
      }
    } catch (error) {
      throw brokerProblem(connectionError ?? error, missing)
    } finally {
      model.off('error', note)
    }
  }
}

async function closeChannel(channel: Channel): Promise<void> {
  await channel.close()
}
