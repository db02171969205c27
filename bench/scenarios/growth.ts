// How the time per message grows with a quantity, such as open leases: always compared with an instance that has almost nothing
// open and does the same work in the same rounds.

import type { Bench } from '../bench.js'
import { type Candidate, type Case, runComparison } from '../comparison.js'
import { jsonDocument, runLoad } from '../load.js'
import type { GrowthPoint, GrowthResult } from '../result.js'
import { ratio, spread } from '../statistics.js'
import { AmqpGetter, AmqpPublisher } from '../targets/amqp.js'
import { GatewayClient } from '../targets/gateway.js'
import { LongPolls } from '../targets/polls.js'
import type { Server } from '../targets/server.js'
import { candidate, leaseAndAck, warmUp } from './candidate.js'

const CONNECTIONS = 16
const body = Buffer.from(jsonDocument(1024))

interface Growth {
  name: string
  quantity: string
  note?: string
  sizes: number[]
  onRequest?: true
  begin: (bench: Bench) => Promise<Stage>
}

interface Stage {
  /** Increases the quantity to `size`. */
  growTo: (size: number) => Promise<void>
  /** The loaded and the idle candidate, and for a growth that the broker shares the same two with amqplib. */
  candidates: (size: number) => Promise<Candidate[]>
  close: () => Promise<void>
}

const ROOM_FOR_POLLS = {
  env: { MAX_WAITERS: '12000', AMQP_LEASE_CONNECTIONS: '6', MAX_CONNECTIONS: '13000' },
  note: 'with MAX_WAITERS=12000 AMQP_LEASE_CONNECTIONS=6 MAX_CONNECTIONS=13000, for the last point',
}

/** Growth with open leases, waiting polls, queues in use and, on request, time. */
export const growthCases: Case[] = [
  growth({
    name: 'growth with open leases: lease and ack',
    quantity: 'open leases',
    note: 'with MAX_LEASES=110000, for the last point',
    sizes: [1, 1000, 10_000, 100_000],
    begin: openLeases,
  }),
  growth({
    name: 'growth with waiting polls on 100 queues: from a publish to the response of a poll',
    quantity: 'waiting polls',
    note: `one message at a time; ${ROOM_FOR_POLLS.note}`,
    sizes: [1, 100, 1000, 10_000],
    begin: (bench) => waitingPolls(bench, 100),
  }),
  growth({
    name: 'growth with waiting polls on one queue: from a publish to the response of a poll',
    quantity: 'waiting polls',
    note: `one message at a time; RabbitMQ has as many consumers on that queue; ${ROOM_FOR_POLLS.note}`,
    sizes: [1, 100, 1000, 10_000],
    begin: (bench) => waitingPolls(bench, 1),
  }),
  growth({
    name: 'growth with queues in use: publish and receive',
    quantity: 'queues',
    sizes: [1, 10, 100, 1000],
    begin: manyQueues,
  }),
  growth({
    name: 'growth over an hour: publish, lease and ack',
    quantity: 'minutes',
    sizes: [0, 5, 15, 30, 45, 60],
    onRequest: true,
    begin: oneHour,
  }),
]

function growth({ name, quantity, note, sizes, onRequest, begin }: Growth): Case {
  const run = async (bench: Bench): Promise<GrowthResult> => {
    const stage = await begin(bench)
    try {
      const points: GrowthPoint[] = []
      const result = (failure?: string): GrowthResult => {
        return {
          kind: 'growth',
          name,
          ...(note !== undefined && { note }),
          quantity,
          points,
          ...(failure !== undefined && { failure }),
        }
      }
      for (const size of sizes) {
        bench.progress.detail(`growing to ${size} ${quantity}`)
        try {
          await stage.growTo(size)
          points.push(await measure(bench, stage, size))
        } catch (error) {
          return result(`${size.toLocaleString('en')} ${quantity}: ${(error as Error).message}`)
        }
      }
      return result()
    } finally {
      await stage.close()
    }
  }
  return { name, quick: false, ...(onRequest && { onRequest }), run }
}

async function measure(bench: Bench, stage: Stage, size: number): Promise<GrowthPoint> {
  const { candidates } = await runComparison(bench, { name: '', candidates: () => stage.candidates(size) })
  const times = candidates.map(({ rate }) => rate.values.map((one) => 1e6 / one))
  const [loaded, idle, ...amqplib] = times
  const [cpu, idleCpu] = candidates.map((one) => one.cpu)
  return {
    at: size,
    time: spread(loaded!),
    ratio: ratio(loaded!, idle!),
    cpu: cpu!,
    cpuRatio: ratio(cpu!.values, idleCpu!.values),
    ...(amqplib.length === 2 && { amqplib: ratio(amqplib[0]!, amqplib[1]!) }),
  }
}

/** Two fresh instances, warmed up: one to load and one to leave idle. */
async function twoInstances(bench: Bench, env: Record<string, string> = {}): Promise<[Server, Server]> {
  const servers = await Promise.all([bench.startInstance(bench.gateway, env), bench.startInstance(bench.gateway, env)])
  for (const server of servers) await warmUp(bench, server)
  return servers as [Server, Server]
}

async function openLeases(bench: Bench): Promise<Stage> {
  const servers = await twoInstances(bench, { MAX_LEASES: '110000' })
  const held = bench.queues.nextName()
  await bench.queues.recreate(held)
  const holder = new GatewayClient([servers[0]], 1)
  let open = 0
  return {
    growTo: async (size) => {
      await bench.queues.fill(held, size - open, Buffer.from(jsonDocument(100)))
      while (open < size) open += (await holder.lease(0, held, Math.min(1000, size - open), '25m')).length
    },
    candidates: () => loadedAndIdle(servers, (server, name) => leaseAndAckCandidate(bench, server, name)),
    close: async () => {
      await holder.close()
      await Promise.all(servers.map((server) => server.stop()))
      await bench.queues.delete(held)
    },
  }
}

/** Polls on `spread` queues. All messages are published to one of them. */
async function waitingPolls(bench: Bench, spread: number): Promise<Stage> {
  const servers = await twoInstances(bench, ROOM_FOR_POLLS.env)
  const queues = servers.map(() => Array.from({ length: spread }, () => bench.queues.nextName()))
  for (const queue of queues.flat()) await bench.queues.recreate(queue)
  const polls = servers.map((server, n) => new LongPolls(server, queues[n]!))
  const publisher = await AmqpPublisher.open(bench.broker.amqpUrl)
  const operation = async (n: number) => {
    const answered = polls[n]!.nextAnswer()
    await publisher.publish(queues[n]![0]!, body)
    await answered
    return 1
  }
  return {
    growTo: async (size) => {
      await polls[0]!.growTo(size)
      await polls[1]!.growTo(1)
    },
    candidates: () =>
      loadedAndIdle(servers, async (server, name) => ({
        name,
        servers: [server],
        prepare: async () => polls[servers.indexOf(server)]!.throwIfFailed(),
        run: (seconds) => runLoad(1, seconds, () => operation(servers.indexOf(server))),
        close: async () => undefined,
      })),
    close: async () => {
      await Promise.all(polls.map((all) => all.close()))
      await publisher.close()
      await Promise.all(servers.map((server) => server.stop()))
      for (const queue of queues.flat()) await bench.queues.delete(queue)
    },
  }
}

async function manyQueues(bench: Bench): Promise<Stage> {
  const { server } = bench.gateway
  const queues: string[] = []
  interface Client {
    publish: (n: number, queue: string) => Promise<unknown>
    receive: (n: number, queue: string) => Promise<number>
    close: () => Promise<void>
  }
  const over = (count: number, name: string, servers: Server[], open: () => Promise<Client>) => {
    let next = 0
    const operation = async (client: Client, n: number) => {
      const queue = queues[next++ % count]!
      await client.publish(n, queue)
      while ((await client.receive(n, queue)) === 0); // another connection may have received this one's message
      return 1
    }
    return candidate(bench, { name, servers, connections: CONNECTIONS, open, operation })
  }
  const gateway = async (): Promise<Client> => {
    const client = new GatewayClient([server], CONNECTIONS)
    return {
      publish: (n, queue) => client.publish(n, queue, body),
      receive: (n, queue) => client.receive(n, queue, 1),
      close: () => client.close(),
    }
  }
  const amqplib = async (): Promise<Client> => {
    const { amqpUrl } = bench.broker
    const [publisher, getter] = [await AmqpPublisher.open(amqpUrl), await AmqpGetter.open(amqpUrl, CONNECTIONS)]
    return {
      publish: (_n, queue) => publisher.publish(queue, body),
      receive: (n, queue) => getter.get(n, queue),
      close: async () => void (await Promise.all([publisher.close(), getter.close()])),
    }
  }
  return {
    growTo: async (size) => {
      while (queues.length < size) {
        const queue = bench.queues.nextName()
        await bench.queues.recreate(queue)
        queues.push(queue)
      }
    },
    candidates: async (size) => [
      await over(size, 'many', [server], gateway),
      await over(1, 'one', [server], gateway),
      await over(size, 'amqplib, many', [], amqplib),
      await over(1, 'amqplib, one', [], amqplib),
    ],
    close: async () => {
      for (const queue of queues) await bench.queues.delete(queue)
    },
  }
}

/** One instance works without a pause between the points, the other one stays idle. */
async function oneHour(bench: Bench): Promise<Stage> {
  const servers = await twoInstances(bench)
  const queue = bench.queues.nextName()
  await bench.queues.recreate(queue)
  const client = new GatewayClient([servers[0]], CONNECTIONS)
  const start = Date.now()
  const operation = async (n: number) => {
    await client.publish(n, queue, body)
    await leaseAndAck(client, n, queue)
    return 1
  }
  return {
    growTo: async (minutes) => {
      const seconds = (start + minutes * 60_000 - Date.now()) / 1000
      if (seconds > 0) await runLoad(CONNECTIONS, seconds, operation)
    },
    candidates: () => loadedAndIdle(servers, (server, name) => leaseAndAckCandidate(bench, server, name)),
    close: async () => {
      await client.close()
      await Promise.all(servers.map((server) => server.stop()))
      await bench.queues.delete(queue)
    },
  }
}

function leaseAndAckCandidate(bench: Bench, server: Server, name: string): Promise<Candidate> {
  return candidate(bench, {
    name,
    servers: [server],
    connections: CONNECTIONS,
    fill: body,
    open: () => new GatewayClient([server], CONNECTIONS),
    operation: leaseAndAck,
  })
}

async function loadedAndIdle(
  [loaded, idle]: [Server, Server],
  open: (server: Server, name: string) => Promise<Candidate>,
): Promise<[Candidate, Candidate]> {
  return [await open(loaded, 'loaded'), await open(idle, 'idle')]
}
