// Names of queues and exchanges that belong to the gateway.

import { createHash } from 'node:crypto'

/** The log of definitions. A writer could define anything, and a reader would see secrets. */
export const DEFINITIONS_QUEUE = 'gateway.definitions'

/** The prefix of the gateway's own queues and exchanges. They hold messages of every vhost, and it acts on what arrives there. */
const OWN_PREFIX = 'gateway.'
/** The names among them that it gives out now. */
const OWN_NAME = /^gateway\.(definitions$|delay\.|control\.)/

/** Whether no client may use a queue or exchange of that name, whatever rights they have. */
export const isReserved = (name: string): boolean => name.startsWith(OWN_PREFIX)

/**
 * Whether no client may publish with the routing key. In another exchange than the default one it is a word of theirs; but
 * RabbitMQ may dead-letter the message through the default exchange with the same key, so the names in use are refused there too.
 */
export const isReservedKey = (exchange: string, key: string): boolean =>
  exchange === '' || exchange === 'amq.default' ? isReserved(key) : OWN_NAME.test(key)

const COPIES_PREFIX = 'gateway.copies.'
/** Of the name of a queue in the name of its exchange. RabbitMQ's names have up to 255 bytes. */
const MAX_QUEUE_NAME = 255 - COPIES_PREFIX.length

/**
 * The exchange through which copies reach the queue, with the routing keys that the messages have. A name that does not fit, or
 * that is not ASCII (docs/decisions/0006-requests-that-break-rabbitmq.md), becomes a digest.
 */
export function copyExchange(queue: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: RabbitMQ can cut ASCII
  const fits = queue.length <= MAX_QUEUE_NAME && /^[\x00-\x7f]*$/.test(queue)
  return `${COPIES_PREFIX}${fits ? queue : `sha256:${createHash('sha256').update(queue).digest('hex')}`}`
}

/** Whether the exchange leads copies to a queue, and to no other. */
export const isCopiesExchange = (exchange: string): boolean => exchange.startsWith(COPIES_PREFIX)

/** Whether copies may have reached the queue through this exchange: its own, or the default one. */
export const isCopyExchange = (exchange: string, queue: string): boolean => exchange === '' || exchange === copyExchange(queue)
