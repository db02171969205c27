// More than one instance of the gateway on one broker.

import type { Bench } from '../bench.js'
import { type Case, type Contender, contest } from '../comparison.js'
import { document } from '../load.js'
import { GatewayClient } from '../targets/gateway.js'
import type { Server } from '../targets/server.js'
import { contender, leaseAndAck, warmUp } from './candidate.js'

const CONNECTIONS = 64
const body = Buffer.from(document(1024))

type Operation = (client: GatewayClient, connection: number, queue: string) => Promise<number>

const publish: Operation = (client, n, queue) => client.publish(n, queue, body)
export const instanceCases: Case[] = [
  ...(['two instances', 'WORKERS=2'] as const).flatMap((name) => [
    more(name, 'publish', { operation: publish }),
    more(name, 'lease and ack', { operation: leaseAndAck, fill: body }),
  ]),
  contest({
    name: `settle at another instance, ${CONNECTIONS} connections`,
    note: 'leased at one instance and acknowledged at the other, against acknowledged where it was leased',
    contenders: (bench) => beside(bench, (second) => [settling(bench, second, 'forwarded'), settling(bench, second, 'local')]),
  }),
]

/** Two processes of the gateway, either way, against one. */
function more(name: 'two instances' | 'WORKERS=2', what: string, work: { operation: Operation; fill?: Buffer }): Case {
  const env: Record<string, string> = name === 'WORKERS=2' ? { WORKERS: '2' } : {}
  return contest({
    name: `${what}, ${name}, ${CONNECTIONS} connections in all`,
    contenders: (bench) =>
      beside(
        bench,
        (added) => {
          const one = bench.gateway.server
          const two = name === 'WORKERS=2' ? [added] : [one, added]
          return [
            contender(bench, { ...work, name, connections: CONNECTIONS, ...on(...two) }),
            contender(bench, { ...work, name: 'one process', connections: CONNECTIONS, ...on(one) }),
          ]
        },
        env,
      ),
  })
}

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

/** Contenders that use one more instance, which ends with the last of them. */
async function beside(
  bench: Bench,
  open: (second: Server) => Promise<Contender>[],
  env: Record<string, string> = {},
): Promise<Contender[]> {
  const second = await bench.startInstance(bench.gateway, env)
  await warmUp(bench, second, Number(env['WORKERS'] ?? 1))
  const all = await Promise.all(open(second))
  const last = all.at(-1)!
  const { close } = last
  last.close = async () => {
    await close()
    await second.stop()
  }
  return all
}
