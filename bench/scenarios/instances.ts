// More than one instance of the gateway on one broker.

import type { Bench } from '../bench.js'
import { type Candidate, type Case, comparison } from '../comparison.js'
import { jsonDocument } from '../load.js'
import { GatewayClient } from '../targets/gateway.js'
import type { Server } from '../targets/server.js'
import { candidate, leaseAndAck, warmUp } from './candidate.js'

const CONNECTIONS = 64
const body = Buffer.from(jsonDocument(1024))

type Operation = (client: GatewayClient, connection: number, queue: string) => Promise<number>

const publish: Operation = (client, n, queue) => client.publish(n, queue, body)

/** Two processes compared with one, and a settle at the instance that does not own the lease. */
export const instanceCases: Case[] = [
  ...(['two instances', 'WORKERS=2'] as const).flatMap((name) => [
    twoProcesses(name, 'publish', { operation: publish }),
    twoProcesses(name, 'lease and ack', { operation: leaseAndAck, fill: body }),
  ]),
  comparison({
    name: `settle at another instance, ${CONNECTIONS} connections`,
    note: 'leased at one instance; acknowledged at the other ("forwarded") or at the same ("local")',
    candidates: (bench) =>
      withSecondInstance(bench, (second) => [
        settleCandidate(bench, second, 'forwarded'),
        settleCandidate(bench, second, 'local'),
      ]),
  }),
]

/** Two processes of the gateway, as two instances or as two workers, compared with one. */
function twoProcesses(name: 'two instances' | 'WORKERS=2', what: string, work: { operation: Operation; fill?: Buffer }): Case {
  const env: Record<string, string> = name === 'WORKERS=2' ? { WORKERS: '2' } : {}
  return comparison({
    name: `${what}, ${name}, ${CONNECTIONS} connections in all`,
    candidates: (bench) =>
      withSecondInstance(
        bench,
        (added) => {
          const one = bench.gateway.server
          const two = name === 'WORKERS=2' ? [added] : [one, added]
          return [
            candidate(bench, { ...work, name, connections: CONNECTIONS, ...on(...two) }),
            candidate(bench, { ...work, name: 'one process', connections: CONNECTIONS, ...on(one) }),
          ]
        },
        env,
      ),
  })
}

function settleCandidate(bench: Bench, second: Server, name: 'forwarded' | 'local'): Promise<Candidate> {
  const owner = bench.gateway.server
  return candidate(bench, {
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

/** Opens candidates that use another instance, which stops when the last of them is closed. */
async function withSecondInstance(
  bench: Bench,
  open: (second: Server) => Promise<Candidate>[],
  env: Record<string, string> = {},
): Promise<Candidate[]> {
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
