// The form of most candidates: a client, a queue of its own, and an operation to repeat on a number of connections.

import type { Bench, Build } from '../bench.js'
import type { Candidate } from '../comparison.js'
import { jsonDocument, runLoad } from '../load.js'
import { AmqpGetter, AmqpPublisher } from '../targets/amqp.js'
import { GatewayClient } from '../targets/gateway.js'
import { ManagementClient } from '../targets/management.js'
import type { QueueType } from '../targets/queues.js'
import type { Server } from '../targets/server.js'

export interface CandidateOptions<Client> {
  name: string
  servers?: Server[]
  connections: number
  type?: QueueType
  /** The body of the messages in the queue before each run. Without it the queue is empty. */
  fill?: Buffer
  open: () => Promise<Client> | Client
  /** Resolves with the number of messages that it moved, which is 0 if the queue is empty. */
  operation: (client: Client, connection: number, queue: string) => Promise<number>
}

/** Opens the client of a candidate. Each run gets a new queue, filled if the options say so. */
export async function candidate<Client extends { close: () => Promise<void> }>(
  { queues }: Bench,
  { name, servers = [], connections, type = 'classic', fill, open, operation }: CandidateOptions<Client>,
): Promise<Candidate> {
  const client = await open()
  const queue = queues.nextName()
  return {
    name,
    servers,
    prepare: async (messages) => {
      await queues.recreate(queue, type)
      if (fill) await queues.fill(queue, messages, fill)
    },
    run: (seconds) => runLoad(connections, seconds, (connection) => operation(client, connection, queue)),
    close: async () => {
      await client.close()
      await queues.delete(queue)
    },
  }
}

type ClientOptions<Client> = Omit<CandidateOptions<Client>, 'name' | 'servers' | 'open'> & { name?: string }

/** A candidate for each build of the gateway that takes part. */
export function gatewayCandidates(bench: Bench, work: ClientOptions<GatewayClient>): Promise<Candidate>[] {
  return bench.builds.map((build) => gatewayCandidate(bench, build, work))
}

/** A gateway, through its HTTP API. */
export function gatewayCandidate(bench: Bench, { name, server }: Build, work: ClientOptions<GatewayClient>): Promise<Candidate> {
  return candidate(bench, { name, ...work, servers: [server], open: () => new GatewayClient([server], work.connections) })
}

/** The bare server, with the same client as the gateway: the cost of HTTP alone. */
export function bareCandidate(bench: Bench, work: ClientOptions<GatewayClient>): Promise<Candidate> {
  const { bareServer: server } = bench
  return candidate(bench, { name: 'bare', ...work, servers: [server], open: () => new GatewayClient([server], work.connections) })
}

/** RabbitMQ's management API. */
export function managementCandidate(bench: Bench, work: ClientOptions<ManagementClient>): Promise<Candidate> {
  const open = () => new ManagementClient(bench.broker.managementUrl, work.connections)
  return candidate(bench, { name: 'management', ...work, open })
}

/** Publishes with amqplib in the process of the load. */
export function amqpPublishCandidate(bench: Bench, work: ClientOptions<AmqpPublisher>): Promise<Candidate> {
  return candidate(bench, { name: 'amqplib', ...work, open: () => AmqpPublisher.open(bench.broker.amqpUrl) })
}

/** Gets messages with amqplib in the process of the load, on one channel per connection. */
export function amqpGetCandidate(bench: Bench, work: ClientOptions<AmqpGetter>): Promise<Candidate> {
  return candidate(bench, { name: 'amqplib', ...work, open: () => AmqpGetter.open(bench.broker.amqpUrl, work.connections) })
}

/** Receives a message under a lease and acknowledges it in a second request. Resolves with the number of messages, 0 or 1. */
export async function leaseAndAck(client: GatewayClient, connection: number, queue: string): Promise<number> {
  const ids = await client.lease(connection, queue, 1)
  for (const id of ids) await client.ack(connection, id)
  return ids.length
}

/** Limits for each process, whichever is reached first. */
const WARM_UP = { connections: 32, seconds: 6, messages: 5000 }

/** Has a fresh instance publish, lease and ack for up to 6 s per worker, so that V8 has compiled its code before it is timed. */
export async function warmUp(bench: Bench, server: Server, workers = 1): Promise<void> {
  const { connections, seconds, messages } = WARM_UP
  let rest = messages * workers
  const fill = Buffer.from(jsonDocument(1024))
  const operation: CandidateOptions<GatewayClient>['operation'] = async (client, n, queue) => {
    if (rest-- <= 0) return 0
    await client.publish(n, queue, fill)
    return leaseAndAck(client, n, queue)
  }
  const work = await candidate(bench, {
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
