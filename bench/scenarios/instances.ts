// More than one instance of the gateway on one broker.

import type { Bench } from '../bench.js'
import { type Case, type Contender, contest } from '../contest.js'
import { document } from '../drive.js'
import { GatewayClient } from '../targets/gateway.js'
import type { Server } from '../targets/server.js'
import { contender } from './contender.js'

const CONNECTIONS = 64
const body = Buffer.from(document(1024))

export const instanceCases: Case[] = [
  contest({
    name: `publish, two instances, ${CONNECTIONS} connections in all, 1 KiB`,
    contenders: (bench) =>
      beside(bench, (second) => {
        const operation = (client: GatewayClient, n: number, queue: string) => client.publish(n, queue, body)
        const work = { connections: CONNECTIONS, operation }
        return [
          contender(bench, { ...work, name: 'two instances', ...on(bench.gateway.server, second) }),
          contender(bench, { ...work, name: 'one instance', ...on(bench.gateway.server) }),
        ]
      }),
  }),
  contest({
    name: `lease and ack, two instances, ${CONNECTIONS} connections in all`,
    contenders: (bench) =>
      beside(bench, (second) => {
        const operation = async (client: GatewayClient, n: number, queue: string) => {
          const ids = await client.lease(n, queue, 1)
          for (const id of ids) await client.ack(n, id)
          return ids.length
        }
        const work = { connections: CONNECTIONS, fill: body, operation }
        return [
          contender(bench, { ...work, name: 'two instances', ...on(bench.gateway.server, second) }),
          contender(bench, { ...work, name: 'one instance', ...on(bench.gateway.server) }),
        ]
      }),
  }),
  contest({
    name: `settle at another instance, ${CONNECTIONS} connections`,
    note: 'leased at one instance and acknowledged at the other, against acknowledged where it was leased',
    contenders: (bench) => beside(bench, (second) => [settling(bench, second, 'forwarded'), settling(bench, second, 'local')]),
  }),
]

function settling(bench: Bench, second: Server, name: 'forwarded' | 'local'): Promise<Contender> {
  const owner = bench.gateway.server
  return contender(bench, {
    name,
    servers: [owner, second],
    connections: CONNECTIONS,
    fill: body,
    open: () => {
      const leasing = new GatewayClient([owner], CONNECTIONS)
      const acking = name === 'local' ? leasing : new GatewayClient([second], CONNECTIONS)
      return { leasing, acking, close: async () => void (await Promise.all([leasing.close(), acking.close()])) }
    },
    operation: async ({ leasing, acking }, n, queue) => {
      const ids = await leasing.lease(n, queue, 1)
      for (const id of ids) await acking.ack(n, id)
      return ids.length
    },
  })
}

const on = (...servers: Server[]) => ({ servers, open: () => new GatewayClient(servers, CONNECTIONS) })

/** Contenders that use a second instance, which ends with the last of them. */
async function beside(bench: Bench, open: (second: Server) => Promise<Contender>[]): Promise<Contender[]> {
  const second = await bench.startInstance(bench.gateway)
  const all = await Promise.all(open(second))
  const last = all.at(-1)!
  const { close } = last
  last.close = async () => {
    await close()
    await second.stop()
  }
  return all
}
