// A call and its reply over RabbitMQ.

import { type Case, comparison } from '../comparison.js'
import { jsonDocument } from '../load.js'
import { AmqpCaller, startResponder } from '../targets/amqp.js'
import { candidate, gatewayCandidates } from './candidate.js'

const CONNECTIONS = 64
const text = jsonDocument(1024)
const body = Buffer.from(text)

/** Calls from 64 connections to one worker. */
export const rpcCases: Case[] = [
  comparison({
    name: `call and reply, ${CONNECTIONS} connections, 1 KiB`,
    quick: true,
    note: 'the worker that replies runs in the process of the load for both candidates',
    candidates: async (bench) => {
      const queue = bench.queues.nextName()
      await bench.queues.recreate(queue)
      const responder = await startResponder(bench.broker.amqpUrl, queue)
      const all = await Promise.all([
        ...gatewayCandidates(bench, {
          connections: CONNECTIONS,
          operation: (client, n) => client.call(n, queue, text).then(() => 1),
        }),
        candidate(bench, {
          name: 'amqplib',
          connections: CONNECTIONS,
          open: () => AmqpCaller.open(bench.broker.amqpUrl),
          operation: (client) => client.call(queue, body).then(() => 1),
        }),
      ])
      const last = all.at(-1)!
      const { close } = last
      last.close = async () => {
        await close()
        await responder.close()
        await bench.queues.delete(queue)
      }
      return all
    },
  }),
]
