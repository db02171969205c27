// The log of definitions: a RabbitMQ stream, which has the same order for every reader. Old segments are dropped.

import { randomUUID } from 'node:crypto'
import { Consumer } from '../amqp/consume/consumer.js'
import type { Delivery } from '../amqp/consume/delivery.js'
import type { Vhosts } from '../amqp/vhosts.js'
import { DEFINITIONS_QUEUE } from '../amqp/wire/reserved.js'
import { Problem } from '../problems.js'
import type { LogRecord } from './state.js'

const MiB = 1024 ** 2
/** RabbitMQ drops the oldest segments beyond this size. Snapshots are frequent enough that those hold nothing needed. */
const LOG_ARGUMENTS = {
  'x-queue-type': 'stream',
  'x-max-length-bytes': 32 * MiB,
  'x-stream-max-segment-size-bytes': 4 * MiB,
}
const DEFINITIONS_TAG = 'gateway.definitions'
const LOG_PREFETCH = 200

export type Reader = (offset: number, record: LogRecord, bytes: number) => void

/** Appends to the log, and reads it. */
export class DefinitionsLog {
  readonly #vhosts: Vhosts
  #end: (() => void) | undefined

  constructor(vhosts: Vhosts) {
    this.#vhosts = vhosts
  }

  /** Declares the stream. @throws Problem access_refused, broker_unavailable, broker_timeout */
  async create(): Promise<void> {
    await this.#vhosts.default.topology.setUp('the log of definitions', async (channel) => {
      await channel.assertQueue(DEFINITIONS_QUEUE, { arguments: LOG_ARGUMENTS })
    })
  }

  /** Resolves when RabbitMQ has it. @throws Problem broker_unavailable, broker_blocked: not stored; broker_timeout: unknown */
  async append(record: LogRecord): Promise<void> {
    if (!(await this.#publish(record)))
      throw new Problem('broker_unavailable', 'The log of definitions is gone, and is declared again. Try again.')
  }

  /** Appends a marker, which leaves no error in RabbitMQ's log. @returns its id; undefined if there is no stream */
  async writeMarker(): Promise<string | undefined> {
    const id = randomUUID()
    return (await this.#publish({ id, type: 'mark' })) ? id : undefined
  }

  /** Reads the log from its beginning, and then every new record. Never resolves. @throws Problem why the reading ended */
  async follow(reader: Reader): Promise<never> {
    const place = await this.#vhosts.default.takeReceiveChannel(DEFINITIONS_QUEUE)
    const { channel } = place
    let onEnd = (_reason: Problem): void => undefined
    const ended = new Promise<never>((_, reject) => {
      onEnd = reject
    })
    ended.catch(() => undefined) // if the consumer does not start, its own problem is thrown instead
    const onDelivery = (delivery: Delivery) => {
      readRecord(delivery, reader)
      channel.ackUpTo(delivery)
    }
    const options = { queue: DEFINITIONS_QUEUE, tag: DEFINITIONS_TAG, prefetch: LOG_PREFETCH, offset: 'first' }
    const consumer = await Consumer.start(place, { ...options, onDelivery, onEnd })
    this.#end = () => onEnd(new Problem('shutting_down', 'The gateway is shutting down.'))
    try {
      return await ended
    } finally {
      this.#end = undefined
      void consumer.close()
    }
  }

  /** Ends the reading. */
  close(): void {
    this.#end?.()
  }

  async #publish(record: LogRecord): Promise<boolean> {
    const body = Buffer.from(JSON.stringify(record))
    const properties = { messageId: record.id, contentType: 'application/json', deliveryMode: 2 }
    const message = { exchange: '', routingKey: DEFINITIONS_QUEUE, properties, body }
    try {
      return await this.#vhosts.default.publisher.publish(message, { counted: false })
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'publish_outcome_unknown') throw error
      throw new Problem('broker_timeout', 'RabbitMQ did not confirm the definition in time. It may or may not be stored.', {
        cause: error,
      })
    }
  }
}

function readRecord({ body, properties }: Delivery, reader: Reader): void {
  const offset = Number(properties.headers?.['x-stream-offset'])
  const record = parseRecord(body)
  if (record && Number.isSafeInteger(offset)) reader(offset, record, body.length)
}

/** Records that others may have written are skipped. */
function parseRecord(body: Buffer): LogRecord | undefined {
  try {
    const record = JSON.parse(body.toString('utf8')) as LogRecord
    return typeof record?.id === 'string' && typeof record.type === 'string' ? record : undefined
  } catch {
    return undefined
  }
}
