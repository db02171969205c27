// Names that belong to the gateway: its own queues, and the headers that it writes.

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

/** On a delayed message: the message to publish when its time has come. Only the gateway may write it. */
export const DELAYED_HEADER = 'gateway-delayed'

/** On a copy of a message that was given back: how often the message was delivered before. */
export const DELIVERIES_HEADER = 'x-gateway-delivery-count'

/** On a copy of a message that was given back: how often its delivery to a subscription's endpoint failed. */
export const ATTEMPTS_HEADER = 'x-gateway-attempts'

/**
 * On a copy of a message that was given back: the queue that its counts belong to. In another queue, such as the queue of
 * dead letters, they start again.
 */
export const QUEUE_HEADER = 'x-gateway-queue'
