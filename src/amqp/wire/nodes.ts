// A connection to any node of a cluster: every node is asked before the answer is no.

import type { BrokerAddress } from '../../config/index.js'
import type { ChannelModel } from './amqplib.js'
import { connectionFailure } from './errors.js'

/** A node that has not answered for this long is not waited for before the next one is asked. */
const NEXT_NODE_AFTER_MS = 1000

export interface NodeConnection {
  model: ChannelModel
  address: BrokerAddress
}

/**
 * Connects to the first node that lets us in. If one has refused, a silent one is given no more than a second.
 * @param first the index of the node to ask first; the others follow in turn
 * @param open connects to one node
 * @param discard ends a connection that came too late
 * @throws Error what the most telling node said, once all have refused or failed
 */
export function connectToAny(
  nodes: readonly BrokerAddress[],
  first: number,
  open: (address: BrokerAddress) => Promise<ChannelModel>,
  discard: (model: ChannelModel) => void,
): Promise<NodeConnection> {
  return new Promise((resolve, reject) => {
    const failures: Error[] = []
    let asked = 0
    let isConnected = false
    let timer: NodeJS.Timeout | undefined
    const giveUp = () => {
      if (failures.some((error) => connectionFailure(error).isClosedByBroker)) reject(mostTelling(failures))
    }
    const askNext = () => {
      clearTimeout(timer)
      if (isConnected) return
      const address = asked < nodes.length ? nodes[(first + asked) % nodes.length] : undefined
      timer = setTimeout(address ? askNext : giveUp, NEXT_NODE_AFTER_MS)
      if (!address) return
      asked++
      open(address).then(
        (model) => {
          if (isConnected) return discard(model)
          isConnected = true
          clearTimeout(timer)
          resolve({ model, address })
        },
        (error: Error) => {
          failures.push(error)
          askNext()
          if (failures.length < nodes.length) return
          clearTimeout(timer)
          reject(mostTelling(failures))
        },
      )
    }
    askNext()
  })
}

/** A node at a limit knows user and vhost, so it comes before one that refuses them, and that one before a silent node. */
function mostTelling(errors: Error[]): Error {
  const weight = (error: Error) => {
    const { refused, isClosedByBroker } = connectionFailure(error)
    return isClosedByBroker ? (refused ? 1 : 2) : 0
  }
  return errors.reduce((best, error) => (weight(error) > weight(best) ? error : best))
}
