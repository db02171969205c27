// A queue as one endless response, compared with an amqplib consumer that acknowledges in equally large groups.

import type { Bench } from '../bench.js'
import { type Candidate, type Case, comparison } from '../comparison.js'
import { jsonDocument, type LoadResult } from '../load.js'
import { amqpConsume } from '../targets/amqp.js'
import { GatewayClient } from '../targets/gateway.js'
import type { Server } from '../targets/server.js'

const PREFETCH = 100
const fill = Buffer.from(jsonDocument(1024))

type Consume = (queue: string, onMessages: (count: number) => boolean) => Promise<void>

/** A stream as NDJSON and as server-sent events. */
export const streamCases: Case[] = [
  stream('NDJSON', 'application/x-ndjson', true),
  stream('server-sent events', 'text/event-stream', false),
]

function stream(form: string, accept: string, quick: boolean): Case {
  return comparison({
    name: `stream, ${form}, ack=auto, prefetch ${PREFETCH}`,
    quick,
    aims: [{ metric: 'rate', against: 'amqplib', required: 0.6, goal: 0.95 }],
    candidates: async (bench) => [
      ...bench.builds.map(({ name, server }) =>
        streamCandidate(bench, name, [server], async (queue, onMessages) => {
          const client = new GatewayClient([server], 1)
          await client.stream(queue, PREFETCH, accept, onMessages)
          await client.close()
        }),
      ),
      streamCandidate(bench, 'amqplib', [], (queue, onMessages) =>
        amqpConsume(bench.broker.amqpUrl, queue, PREFETCH, onMessages),
      ),
    ],
  })
}

function streamCandidate({ queues }: Bench, name: string, servers: Server[], consume: Consume): Candidate {
  const queue = queues.nextName()
  let filled = 0
  return {
    name,
    servers,
    prepare: async (messages) => {
      await queues.recreate(queue)
      await queues.fill(queue, messages, fill)
      filled = messages
    },
    run: (seconds) => timeStream(filled, seconds, (onMessages) => consume(queue, onMessages)),
    close: () => queues.delete(queue),
  }
}

/** Counts from the first message until all are received or the time is over. */
async function timeStream(
  filled: number,
  seconds: number,
  consume: (onMessages: (count: number) => boolean) => Promise<void>,
): Promise<LoadResult> {
  let first = 0
  let last = 0
  let messages = 0
  let uncounted = 0
  await consume((count) => {
    last = performance.now()
    if (first === 0) {
      first = last
      uncounted = count // they arrived before the clock started
    }
    messages += count
    return messages >= filled || last - first > seconds * 1000
  })
  return { messages: messages - uncounted, seconds: (last - first) / 1000, latencies: [] }
}
