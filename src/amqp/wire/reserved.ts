// Names that belong to the gateway: its own queues, and the headers that it writes.

/** The log of definitions. A writer could define anything, and a reader would see secrets. */
export const DEFINITIONS_QUEUE = 'gateway.definitions'

/** Whether no client may publish to the queue, read it, bind it or change it, whatever rights they have. */
export const isReserved = (queue: string): boolean => queue === DEFINITIONS_QUEUE

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
