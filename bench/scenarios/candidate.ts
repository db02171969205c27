// The shape that most contenders have: a client, a queue of its own, an operation repeated on so many connections.

import type { Bench, Build } from '../bench.js'
import type { Contender } from '../comparison.js'
import { document, drive } from '../load.js'
import { AmqpGetter, AmqpPublisher } from '../targets/amqp.js'
import { GatewayClient } from '../targets/gateway.js'
import { ManagementClient } from '../targets/management.js'
import type { QueueType } from '../targets/queues.js'
import type { Server } from '../targets/server.js'

export interface Work<Client> {
  name: string
  servers?: Server[]
  connections: number
  type?: QueueType
  /** What the queue is filled with before each run; without it the queue is empty. */
  fill?: Buffer
  open: () => Promise<Client> | Client
  /** Resolves with how many messages it moved; 0 where the queue is empty. */
  operation: (client: Client, connection: number, queue: string) => Promise<number>
}

export async function contender<Client extends { close: () => Promise<void> }>(
  { queues }: Bench,
  { name, servers = [], connections, type = 'classic', fill, open, operation }: Work<Client>,
): Promise<Contender> {
  const client = await open()
  const queue = queues.name()
  return {
    name,
    servers,
    prepare: async (messages) => {
      await queues.renew(queue, type)
      if (fill) await queues.fill(queue, messages, fill)
    },
    run: (seconds) => drive(connections, seconds, (connection) => operation(client, connection, queue)),
    close: async () => {
      await client.close()
      await queues.delete(queue)
    },
  }
}

type Rest<Client> = Omit<Work<Client>, 'name' | 'servers' | 'open'> & { name?: string }

/** This gateway, and the other build where one takes part. */
export function gateways(bench: Bench, work: Rest<GatewayClient>): Promise<Contender>[] {
  return bench.builds.map((build) => gateway(bench, build, work))
}

export function gateway(bench: Bench, { name, server }: Build, work: Rest<GatewayClient>): Promise<Contender> {
  return contender(bench, { name, ...work, servers: [server], open: () => new GatewayClient([server], work.connections) })
}

/** The server that does nothing, which is spoken to as the gateway is. */
export function bare(bench: Bench, work: Rest<GatewayClient>): Promise<Contender> {
  const { bare: server } = bench
  return contender(bench, { name: 'bare', ...work, servers: [server], open: () => new GatewayClient([server], work.connections) })
}

export function management(bench: Bench, work: Rest<ManagementClient>): Promise<Contender> {
  const open = () => new ManagementClient(bench.broker.managementUrl, work.connections)
  return contender(bench, { name: 'management', ...work, open })
}

export function amqpPublish(bench: Bench, work: Rest<AmqpPublisher>): Promise<Contender> {
  return contender(bench, { name: 'amqplib', ...work, open: () => AmqpPublisher.open(bench.broker.amqpUrl) })
}

export function amqpGet(bench: Bench, work: Rest<AmqpGetter>): Promise<Contender> {
  return contender(bench, { name: 'amqplib', ...work, open: () => AmqpGetter.open(bench.broker.amqpUrl, work.connections) })
}

/** Receives a message under a lease and acknowledges it in a second request. */
export async function leaseAndAck(client: GatewayClient, connection: number, queue: string): Promise<number> {
  const ids = await client.lease(connection, queue, 1)
  for (const id of ids) await client.ack(connection, id)
  return ids.length
}

/** So many messages for each process, or so many seconds. */
const WARM_UP = { connections: 32, seconds: 6, messages: 5000 }

/** A fresh instance works for a while, so that V8 has compiled what the cases need before one of them is timed. */
export async function warmUp(bench: Bench, server: Server, workers = 1): Promise<void> {
  const { connections, seconds, messages } = WARM_UP
  let rest = messages * workers
  const fill = Buffer.from(document(1024))
  const operation: Work<GatewayClient>['operation'] = async (client, n, queue) => {
    if (rest-- <= 0) return 0
    await client.publish(n, queue, fill)
    return leaseAndAck(client, n, queue)
  }
  const work = await contender(bench, {
    name: 'warming up',
    connections,
    fill,
    open: () => new GatewayClient([server], connections),
    operation,
  })
  await work.prepare(connections)
  await work.run(seconds * workers)
  await work.close()
}
