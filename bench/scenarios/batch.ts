// Many messages per request, confirmed together.

import { type Case, comparison } from '../comparison.js'
import { jsonDocument } from '../load.js'
import type { Aim } from '../result.js'
import { amqpPublishCandidate, gatewayCandidates } from './candidate.js'

const CONNECTIONS = 4
const BYTES = 1024
const aims: Aim[] = [{ metric: 'rate', against: 'amqplib', required: 0.6, goal: 0.95 }]

/** Publishes in batches of 1000 and 100 messages, as JSON and as NDJSON. */
export const batchCases: Case[] = [1000, 100].flatMap((size) => [batch(size, 'json'), batch(size, 'x-ndjson')])

function batch(size: number, type: 'json' | 'x-ndjson'): Case {
  const text = jsonDocument(BYTES)
  const body = Buffer.from(text)
  const entry = `{"payload":${text},"properties":{"content_type":"application/json"}}`
  const entries = new Array<string>(size).fill(entry)
  const request = type === 'json' ? `{"messages":[${entries.join(',')}]}` : `${entries.join('\n')}\n`
  return comparison({
    name: `batch of ${size}, ${type === 'json' ? 'JSON' : 'NDJSON'}, ${CONNECTIONS} connections, 1 KiB`,
    quick: size === 1000 && type === 'json',
    aims: size === 1000 ? aims : [],
    note: 'amqplib writes as many messages at once on one channel and waits for their confirms, with the same parallelism',
    candidates: (bench) =>
      Promise.all([
        ...gatewayCandidates(bench, {
          connections: CONNECTIONS,
          operation: (client, n, queue) => client.publishBatch(n, queue, type, request, size),
        }),
        amqpPublishCandidate(bench, {
          connections: CONNECTIONS,
          operation: (client, _n, queue) => client.publishBatch(queue, body, size),
        }),
      ]),
  })
}
