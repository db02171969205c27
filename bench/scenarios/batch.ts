// Many messages a request, confirmed together.

import { type Case, contest } from '../comparison.js'
import { document } from '../load.js'
import type { Aim } from '../result.js'
import { amqpPublish, gateways } from './candidate.js'

const CONNECTIONS = 4
const BYTES = 1024
const aims: Aim[] = [{ of: 'rate', against: 'amqplib', least: 0.6, goal: 0.95 }]

export const batchCases: Case[] = [1000, 100].flatMap((size) => [batch(size, 'json'), batch(size, 'x-ndjson')])

function batch(size: number, type: 'json' | 'x-ndjson'): Case {
  const text = document(BYTES)
  const body = Buffer.from(text)
  const entry = `{"payload":${text},"properties":{"content_type":"application/json"}}`
  const entries = new Array<string>(size).fill(entry)
  const request = type === 'json' ? `{"messages":[${entries.join(',')}]}` : `${entries.join('\n')}\n`
  return contest({
    name: `batch of ${size}, ${type === 'json' ? 'JSON' : 'NDJSON'}, ${CONNECTIONS} connections, 1 KiB`,
    quick: size === 1000 && type === 'json',
    aims: size === 1000 ? aims : [],
    note: 'amqplib writes as many at once on one channel and waits for their confirms, as often in parallel',
    contenders: (bench) =>
      Promise.all([
        ...gateways(bench, {
          connections: CONNECTIONS,
          operation: (client, n, queue) => client.publishBatch(n, queue, type, request, size),
        }),
        amqpPublish(bench, {
          connections: CONNECTIONS,
          operation: (client, _n, queue) => client.publishBatch(queue, body, size),
        }),
      ]),
  })
}
