// Names that the gateway keeps to itself.

/** The log of what is defined (src/definitions): whoever wrote to it could define anything, and who read it would see secrets. */
export const DEFINITIONS_QUEUE = 'gateway.definitions'

/** Whether no client may publish to that queue, read it, bind it, or change it, whatever his rights. */
export const isReserved = (queue: string): boolean => queue === DEFINITIONS_QUEUE
