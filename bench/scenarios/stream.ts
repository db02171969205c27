// A queue as one endless answer, against a consumer of amqplib's that acknowledges as thriftily.

import type { Bench } from '../bench.js'
import { type Case, type Contender, contest } from '../comparison.js'
import { document, type Run } from '../load.js'
import { amqpConsume } from '../targets/amqp.js'
import { GatewayClient } from '../targets/gateway.js'
import type { Server } from '../targets/server.js'

const PREFETCH = 100
const fill = Buffer.from(document(1024))

type Consume = (queue: string, onMessages: (count: number) => boolean) => Promise<void>

export const streamCases: Case[] = [
  stream('NDJSON', 'application/x-ndjson', true),
  stream('server-sent events', 'text/event-stream', false),
]

function stream(form: string, accept: string, quick: boolean): Case {
  return contest({
    name: `stream, ${form}, ack=auto, prefetch ${PREFETCH}`,
    quick,
    aims: [{ of: 'rate', against: 'amqplib', least: 0.6, goal: 0.95 }],
    contenders: async (bench) => [
      ...bench.builds.map(({ name, server }) =>
        consumer(bench, name, [server], async (queue, onMessages) => {
          const client = new GatewayClient([server], 1)
          await client.stream(queue, PREFETCH, accept, onMessages)
          await client.close()
        }),
      ),
      consumer(bench, 'amqplib', [], (queue, onMessages) => amqpConsume(bench.broker.amqpUrl, queue, PREFETCH, onMessages)),
    ],
  })
}

function consumer({ queues }: Bench, name: string, servers: Server[], consume: Consume): Contender {
  const queue = queues.name()
  let filled = 0
  return {
    name,
    servers,
    prepare: async (messages) => {
      await queues.renew(queue)
      await queues.fill(queue, messages, fill)
      filled = messages
    },
    run: (seconds) => timed(filled, seconds, (onMessages) => consume(queue, onMessages)),
    close: () => queues.delete(queue),
  }
}

/** From the first message to the last, of as many as there are or come in that time. */
async function timed(
  filled: number,
  seconds: number,
  consume: (onMessages: (count: number) => boolean) => Promise<void>,
): Promise<Run> {
  let first = 0
  let last = 0
  let messages = 0
  let uncounted = 0
  await consume((count) => {
    last = performance.now()
    if (first === 0) {
      first = last
      uncounted = count // they came before the clock ran
    }
    messages += count
    return messages >= filled || last - first > seconds * 1000
  })
  return { messages: messages - uncounted, seconds: (last - first) / 1000, latencies: [] }
}
