// One message per request, on few and many connections, small and large, to both types of queue.

import { type Case, comparison } from '../comparison.js'
import { jsonDocument } from '../load.js'
import type { Aim } from '../result.js'
import type { QueueType } from '../targets/queues.js'
import { amqpPublishCandidate, bareCandidate, gatewayCandidates, managementCandidate } from './candidate.js'

const SIZES = { '100 B': 100, '1 KiB': 1024, '10 KiB': 10 * 1024 }
type Size = keyof typeof SIZES

const aims: Aim[] = [
  { metric: 'rate', against: 'amqplib', required: 0.5, goal: 0.85 },
  { metric: 'p99', against: 'amqplib', required: 2.5, goal: 1.2 },
  { metric: 'rate', against: 'management', required: 5, goal: 12 },
]

/** Publishes of 1 KiB on 1 to 256 connections, and of 100 B and 10 KiB on 64. */
export const publishCases: Case[] = [
  ...(['classic', 'quorum'] as const).flatMap((type) =>
    [1, 16, 64, 256].map((connections) => publish(connections, type, '1 KiB')),
  ),
  ...(['classic', 'quorum'] as const).flatMap((type) => [publish(64, type, '100 B'), publish(64, type, '10 KiB')]),
]

function publish(connections: number, type: QueueType, size: Size): Case {
  const text = jsonDocument(SIZES[size])
  const body = Buffer.from(text)
  // The aims apply to this case, and a quick run includes it.
  const main = connections === 64 && type === 'classic' && size === '1 KiB'
  return comparison({
    name: `publish, ${connections} ${connections === 1 ? 'connection' : 'connections'}, ${type} queue, ${size}`,
    quick: main,
    aims: main ? aims : [],
    candidates: (bench) =>
      Promise.all([
        ...gatewayCandidates(bench, { connections, type, operation: (client, n, queue) => client.publish(n, queue, body) }),
        amqpPublishCandidate(bench, { connections, type, operation: (client, _n, queue) => client.publish(queue, body) }),
        managementCandidate(bench, { connections, type, operation: (client, n, queue) => client.publish(n, queue, text) }),
        bareCandidate(bench, { connections, type, operation: (client, n, queue) => client.publish(n, queue, body) }),
      ]),
  })
}
