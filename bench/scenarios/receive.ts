// Receiving, settled by itself or under a lease with an ack in a later call.

import { type Case, contest } from '../comparison.js'
import { document } from '../load.js'
import type { Aim } from '../result.js'
import type { GatewayClient } from '../targets/gateway.js'
import { amqpGet, bare, gateway, gateways, leaseAndAck, management } from './candidate.js'

const fill = Buffer.from(document(1024))

export const receiveCases: Case[] = [
  receive(1, 64, true, [{ of: 'rate', against: 'management', least: 4, goal: 8 }]),
  receive(10, 16, false, []),
  receive(100, 16, true, [{ of: 'rate', against: 'management', least: 1, goal: 2 }]),
  leases(1, 64, true),
  leases(1, 1, false),
  leases(100, 16, false),
]

function receive(max: number, connections: number, quick: boolean, aims: Aim[]): Case {
  return contest({
    name: `receive, max=${max}, ack=auto, ${connections} connections`,
    quick,
    aims,
    contenders: (bench) =>
      Promise.all([
        ...gateways(bench, { connections, fill, operation: (client, n, queue) => client.receive(n, queue, max) }),
        management(bench, { connections, fill, operation: (client, n, queue) => client.get(n, queue, max) }),
        ...(max === 1 ? [amqpGet(bench, { connections, fill, operation: (client, n, queue) => client.get(n, queue) })] : []),
        ...(max === 1 ? [bare(bench, { connections, operation: (client, n, queue) => client.receive(n, queue, 1) })] : []),
      ]),
  })
}

/** Both requests of a message's life, and the broker's word between: against receiving alone, which is one. */
function leases(max: number, connections: number, quick: boolean): Case {
  const settled = async (client: GatewayClient, n: number, queue: string) => {
    const ids = await client.lease(n, queue, max)
    if (ids.length > 0) await client.settle(n, ids)
    return ids.length
  }
  const how = max === 1 ? 'lease and ack' : `lease ${max} and settle them together`
  return contest({
    name: `${how}, ${connections} ${connections === 1 ? 'connection' : 'connections'}`,
    quick,
    aims: [{ of: 'rate', against: 'receive alone', least: 0.5, goal: 0.8 }],
    note: '"receive alone" is ack=auto: one request in place of two',
    contenders: (bench) =>
      Promise.all([
        ...gateways(bench, { connections, fill, operation: max === 1 ? leaseAndAck : settled }),
        gateway(bench, bench.gateway, {
          name: 'receive alone',
          connections,
          fill,
          operation: (client, n, queue) => client.receive(n, queue, max),
        }),
        ...(max === 1 ? [amqpGet(bench, { connections, fill, operation: (client, n, queue) => client.get(n, queue) })] : []),
      ]),
  })
}
