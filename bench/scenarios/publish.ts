// One message a request: what a publish costs, on few and many connections, small and large, on both types of queue.

import { type Case, contest } from '../comparison.js'
import { document } from '../load.js'
import type { Aim } from '../result.js'
import type { QueueType } from '../targets/queues.js'
import { amqpPublish, bare, gateways, management } from './candidate.js'

const SIZES = { '100 B': 100, '1 KiB': 1024, '10 KiB': 10 * 1024 }
type Size = keyof typeof SIZES

const aims: Aim[] = [
  { of: 'rate', against: 'amqplib', least: 0.5, goal: 0.85 },
  { of: 'p99', against: 'amqplib', least: 2.5, goal: 1.2 },
  { of: 'rate', against: 'management', least: 5, goal: 12 },
]

export const publishCases: Case[] = [
  ...(['classic', 'quorum'] as const).flatMap((type) =>
    [1, 16, 64, 256].map((connections) => publish(connections, type, '1 KiB')),
  ),
  ...(['classic', 'quorum'] as const).flatMap((type) => [publish(64, type, '100 B'), publish(64, type, '10 KiB')]),
]

function publish(connections: number, type: QueueType, size: Size): Case {
  const text = document(SIZES[size])
  const body = Buffer.from(text)
  // What we hold ourselves to is said of this one; it is what a quick run shows.
  const main = connections === 64 && type === 'classic' && size === '1 KiB'
  return contest({
    name: `publish, ${connections} ${connections === 1 ? 'connection' : 'connections'}, ${type} queue, ${size}`,
    quick: main,
    aims: main ? aims : [],
    contenders: (bench) =>
      Promise.all([
        ...gateways(bench, { connections, type, operation: (client, n, queue) => client.publish(n, queue, body) }),
        amqpPublish(bench, { connections, type, operation: (client, _n, queue) => client.publish(queue, body) }),
        management(bench, { connections, type, operation: (client, n, queue) => client.publish(n, queue, text) }),
        bare(bench, { connections, type, operation: (client, n, queue) => client.publish(n, queue, body) }),
      ]),
  })
}
