// The memory that 100 messages of 1 MiB take if they are published, and received, at the same moment.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from '../bench.js'
import type { Case } from '../comparison.js'
import { jsonDocument } from '../load.js'
import type { FiguresResult } from '../result.js'
import { spread } from '../statistics.js'
import { Connections } from '../targets/http.js'
import { memory } from '../targets/server.js'

const COUNT = 100
const MAX_ROUNDS = 3
const MEBIBYTE = 1024 ** 2
const name = `${COUNT} messages of 1 MiB at once`
const body = Buffer.from(jsonDocument(MEBIBYTE))

/** Publishes and receives 100 messages of 1 MiB at once. */
export const largeCases: Case[] = [{ name, quick: true, run: measure }]

interface Sample {
  /** Peak resident bytes after publishing. */
  publishing: number
  /** Peak resident bytes after publishing and receiving. */
  receiving: number
  /** Until all messages were stored. */
  seconds: number
  /** Responses with 503. */
  refused: number
}

async function measure(bench: Bench): Promise<FiguresResult> {
  const samples: Sample[] = []
  const rounds = bench.options.quick ? 1 : Math.min(bench.options.rounds, MAX_ROUNDS)
  for (let round = 1; round <= rounds; round++) {
    bench.progress.detail(`round ${round} of ${rounds}`)
    samples.push(await sample(bench))
  }
  const of = (key: keyof Sample, divisor = 1) => spread(samples.map((one) => one[key] / divisor))
  return {
    kind: 'figures',
    name,
    note: 'each round with a fresh instance; a publish that is refused with 503 is repeated after 100 ms',
    figures: [
      { label: 'peak memory after publishing', unit: 'MiB', value: of('publishing', MEBIBYTE), limit: 512, goal: 300 },
      {
        label: 'peak memory after publishing and receiving',
        unit: 'MiB',
        value: of('receiving', MEBIBYTE),
        limit: 512,
        goal: 300,
      },
      { label: 'time until all messages were stored', unit: 's', value: of('seconds') },
      { label: '503 overloaded', unit: 'responses', value: of('refused') },
    ],
  }
}

async function sample(bench: Bench): Promise<Sample> {
  const queue = bench.queues.nextName()
  await bench.queues.recreate(queue)
  const server = await bench.startInstance(bench.gateway)
  const connections = new Connections([server.url], COUNT)
  const path = `/queues/${queue}/messages`
  let refused = 0
  const publish = async (connection: number): Promise<void> => {
    const headers = { 'content-type': 'application/json' }
    const answer = await connections.send(connection, { method: 'POST', path, headers, body })
    if (answer.status === 201) return
    if (answer.status !== 503) throw new Error(`${answer.status} ${answer.body}`)
    refused++
    await sleep(100)
    return publish(connection)
  }
  const receive = async (connection: number): Promise<void> => {
    const answer = await connections.expect(200, connection, { method: 'GET', path: `${path}?ack=auto` })
    if (answer.length < MEBIBYTE) throw new Error(`a message of ${answer.length} bytes was received`)
  }
  try {
    const start = performance.now()
    await all(publish)
    const seconds = (performance.now() - start) / 1000
    const publishing = memory([server.pid], 'peak')
    await all(receive)
    return { publishing, receiving: memory([server.pid], 'peak'), seconds, refused }
  } finally {
    await connections.close()
    await server.stop()
    await bench.queues.delete(queue)
  }
}

async function all(work: (connection: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: COUNT }, (_, connection) => work(connection)))
}
