// A request and its reply over RabbitMQ, both through the same worker.

import { type Case, contest } from '../comparison.js'
import { document } from '../load.js'
import { AmqpCaller, startResponder } from '../targets/amqp.js'
import { contender, gateways } from './candidate.js'

const CONNECTIONS = 64
const text = document(1024)
const body = Buffer.from(text)

export const rpcCases: Case[] = [
  contest({
    name: `call and reply, ${CONNECTIONS} connections, 1 KiB`,
    quick: true,
    note: 'the worker that replies runs in the process of the load, for both',
    contenders: async (bench) => {
      const queue = bench.queues.name()
      await bench.queues.renew(queue)
      const responder = await startResponder(bench.broker.amqpUrl, queue)
      const all = await Promise.all([
        ...gateways(bench, { connections: CONNECTIONS, operation: (client, n) => client.call(n, queue, text).then(() => 1) }),
        contender(bench, {
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
