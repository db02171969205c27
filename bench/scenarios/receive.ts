// Receiving, with ack=auto or under a lease with an ack in a second request.

import { type Case, comparison } from '../comparison.js'
import { jsonDocument } from '../load.js'
import type { Aim } from '../result.js'
import type { GatewayClient } from '../targets/gateway.js'
import {
  amqpGetCandidate,
  bareCandidate,
  gatewayCandidate,
  gatewayCandidates,
  leaseAndAck,
  managementCandidate,
} from './candidate.js'

const fill = Buffer.from(jsonDocument(1024))

/** Receives of 1 to 100 messages with ack=auto, and under leases that a second request acknowledges. */
export const receiveCases: Case[] = [
  receive(1, 64, true, [{ metric: 'rate', against: 'management', required: 4, goal: 8 }]),
  receive(10, 16, false, []),
  receive(100, 16, true, [{ metric: 'rate', against: 'management', required: 1, goal: 2 }]),
  leases(1, 64, true),
  leases(1, 1, false),
  leases(100, 16, false),
]

function receive(max: number, connections: number, quick: boolean, aims: Aim[]): Case {
  return comparison({
    name: `receive, max=${max}, ack=auto, ${connections} connections`,
    quick,
    aims,
    candidates: (bench) =>
      Promise.all([
        ...gatewayCandidates(bench, { connections, fill, operation: (client, n, queue) => client.receive(n, queue, max) }),
        managementCandidate(bench, { connections, fill, operation: (client, n, queue) => client.get(n, queue, max) }),
        ...(max === 1
          ? [amqpGetCandidate(bench, { connections, fill, operation: (client, n, queue) => client.get(n, queue) })]
          : []),
        ...(max === 1
          ? [bareCandidate(bench, { connections, operation: (client, n, queue) => client.receive(n, queue, 1) })]
          : []),
      ]),
  })
}

/** A receive and its settle, which waits for the broker, compared with a receive alone. */
function leases(max: number, connections: number, quick: boolean): Case {
  const settled = async (client: GatewayClient, n: number, queue: string) => {
    const ids = await client.lease(n, queue, max)
    if (ids.length > 0) await client.settle(n, ids)
    return ids.length
  }
  const how = max === 1 ? 'lease and ack' : `lease ${max} and settle them together`
  return comparison({
    name: `${how}, ${connections} ${connections === 1 ? 'connection' : 'connections'}`,
    quick,
    aims: [{ metric: 'rate', against: 'receive alone', required: 0.5, goal: 0.8 }],
    note: '"receive alone" uses ack=auto: one request instead of two',
    candidates: (bench) =>
      Promise.all([
        ...gatewayCandidates(bench, { connections, fill, operation: max === 1 ? leaseAndAck : settled }),
        gatewayCandidate(bench, bench.gateway, {
          name: 'receive alone',
          connections,
          fill,
          operation: (client, n, queue) => client.receive(n, queue, max),
        }),
        ...(max === 1
          ? [amqpGetCandidate(bench, { connections, fill, operation: (client, n, queue) => client.get(n, queue) })]
          : []),
      ]),
  })
}
