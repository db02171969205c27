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
 * Connects to the first node that lets us in.
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
    const askNext = () => {
      clearTimeout(timer)
      const address = nodes[(first + asked) % nodes.length]
      if (isConnected || asked === nodes.length || !address) return
      asked++
      timer = setTimeout(askNext, NEXT_NODE_AFTER_MS)
      open(address).then(
        (model) => {
          if (isConnected) return discard(model)
          isConnected = true
          clearTimeout(timer)
          resolve({ model, address })
        },
        (error: Error) => {
          failures.push(error)
          if (failures.length === nodes.length) reject(mostTelling(failures))
          else askNext()
        },
      )
    }
    askNext()
  })
}

/** A node that is at a limit knows user and vhost, so it comes before one that refuses them, and that one before a silent node. */
function mostTelling(errors: Error[]): Error {
  const weight = (error: Error) => {
    const { refused, isClosedByBroker } = connectionFailure(error)
    return isClosedByBroker ? (refused ? 1 : 2) : 0
  }
  return errors.reduce((best, error) => (weight(error) > weight(best) ? error : best))
}
