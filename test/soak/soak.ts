// A soak test: several gateways, a load and faults, and a check of the invariants at the end.

import { setTimeout as sleep } from 'node:timers/promises'
import amqplib from 'amqplib'
import type { Broker } from '../../scripts/broker.mjs'
import { UNDELIVERABLE_QUEUE } from '../../src/delay/levels.js'
import { consumerTimeout } from '../support/consumer-timeout.js'
import { eventually } from '../support/eventually.js'
import { type Fault, type FaultContext, injectFaults, soakUrl } from './faults.js'
import { type Instance, startFleet } from './fleet.js'
import { checkInvariants, type FinalState, type Report } from './invariants.js'
import { Journal } from './journal.js'
import { Load } from './load.js'
import { addUser, manage, VHOST } from './management.js'
import { type Memory, memoryOf, residentMiB } from './memory.js'

export interface SoakOptions {
  /** One node, or the nodes of a cluster. */
  brokers: Broker[]
  queueType: 'classic' | 'quorum'
  /** The minimum time of faults, in milliseconds. */
  duration: number
  /** Lists of faults. The lists run in parallel, each one fault at a time with `every` milliseconds between two of them. */
  faults: { faults: Record<string, Fault>; every: number }[]
  /** Extends the faults beyond `duration` until it returns true, for at most MAX_EXTENSION_MS. */
  faultsUntil?: (journal: Journal) => boolean
  /** Extends the load beyond the faults until it returns true, for at most MAX_EXTENSION_MS. */
  loadUntil?: (journal: Journal) => boolean
  /** The program to run as a gateway. */
  program?: string
  /** Gets a line of text once a second. */
  onProgress?: (text: string) => void
}

export interface SoakResult {
  report: Report
  journal: Journal
  /** Unrequested ends of gateways. */
  crashed: string[]
  /** Of each gateway that ran from the start to the end. */
  memory: Memory[]
}

/** Options for the broker of a soak test: its consumer timeout of 6 s is longer than a worker that behaves well holds a lease. */
export const SOAK_BROKER = consumerTimeout(6)
const USERS = ['soak-1', 'soak-2', 'soak-3']

/** The maximum time of a request without its own wait: the sum of the slowest calls to the broker that it may make. */
export const MAX_REQUEST_MS = 15_000
const MAX_EXTENSION_MS = 180_000
/** The maximum time until all messages are drained after the load has stopped. */
const MAX_DRAIN_MS = 60_000

let runs = 0

/**
 * Runs a load and faults in a vhost of its own, then drains all queues and stops the gateways. Resolves with the invariants'
 * report.
 * @throws Error if the gateways do not become ready or a queue cannot be drained
 */
export async function runSoak(options: SoakOptions): Promise<SoakResult> {
  const { brokers, queueType, duration, faults, faultsUntil, loadUntil, program, onProgress = () => undefined } = options
  const [first] = brokers
  await manage(first!, 'PUT', `vhosts/${VHOST}`, {})
  for (const user of ['guest', ...USERS]) await allow(first!, user)
  const fleet = await startFleet({ brokers: brokers.map(soakUrl), users: USERS, ...(program && { program }) })
  const name = `${queueType}-${++runs}`
  const queues = [`${name}.a`, `${name}.b`]
  const volatile = `${name}.c`
  const dead = `${name}.dead`
  // Since 4.0 a quorum queue drops a message after 20 returns by default. Here no message may disappear.
  const limit = queueType === 'quorum' ? { 'x-delivery-limit': 1_000_000 } : {}
  const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead, ...limit }
  await eventually(() => declare(fleet[0]!, dead, queueType, {}), 30_000)
  for (const queue of [...queues, volatile]) await eventually(() => declare(fleet[0]!, queue, queueType, args), 30_000)
  const journal = new Journal()
  const context: FaultContext = {
    fleet,
    brokers,
    journal,
    brokerCrashes: [],
    queues,
    volatile: { name: volatile, declare: (instance) => declare(instance, volatile, queueType, args) },
  }
  const load = new Load(fleet, [...queues, volatile], journal)
  const pids = fleet.map(({ pid }) => pid)
  const samples: number[][] = pids.map(() => [])
  const sample = () => {
    for (const [n, pid] of pids.entries()) {
      const resident = fleet[n]!.pid === pid ? residentMiB(pid) : undefined
      if (resident !== undefined) samples[n]!.push(resident)
    }
  }

  const end = Date.now() + duration
  const extendsUntil = (condition?: (journal: Journal) => boolean) => () =>
    Date.now() > end && (!condition || condition(journal) || Date.now() > end + MAX_EXTENSION_MS)
  const [faultsAreOver, loadIsOver] = [extendsUntil(faultsUntil), extendsUntil(loadUntil)]
  const progress = setInterval(() => {
    const left = Math.max(0, Math.round((end - Date.now()) / 1000))
    onProgress(
      `${left} s left, ${journal.faults.length} faults, ${journal.publishes.length} published, ${journal.settles.length} settles`,
    )
  }, 1000)
  load.start({ producers: 6, workers: 14, streamReaders: 3, slowWorkers: 1, stalledReaders: 1 })
  const sampling = setInterval(sample, duration / 100)
  await Promise.all(faults.map((some) => injectFaults(context, some.faults, faultsAreOver, some.every)))
  while (!loadIsOver()) await sleep(100)
  await load.stop()
  clearInterval(progress)
  clearInterval(sampling)

  onProgress('draining the queues')
  for (const { proxy } of fleet) proxy.thaw()
  await Promise.all(fleet.map((instance) => instance.untilReady()))
  const memory = samples.filter((_, n) => fleet[n]!.pid === pids[n]).map(memoryOf)
  const left = await drainAll(fleet[0]!, first!, [...queues, volatile, dead])
  const queued = new Map([...queues, volatile].map((queue) => [queue, left.get(queue)!]))
  await Promise.all(fleet.map((instance) => instance.stop()))
  const finalState: FinalState = {
    queued,
    dead: [...left.get(dead)!, ...(await drainUndeliverable(first!))],
    leftovers: await leftovers(first!),
  }
  const report = checkInvariants(journal, finalState, { crashes: context.brokerCrashes })
  return { report, journal, crashed: fleet.flatMap(({ crashes }) => crashes), memory }
}

async function allow(broker: Broker, user: string): Promise<void> {
  if (user !== 'guest') return addUser(broker, user)
  await manage(broker, 'PUT', `permissions/${VHOST}/${user}`, { configure: '.*', write: '.*', read: '.*' })
}

async function declare(instance: Instance, queue: string, type: string, args: object): Promise<void> {
  const { status, text } = await instance.request('PUT', `/queues/${queue}`, {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type, arguments: args }),
  })
  if (status >= 300) throw new Error(`${queue}: ${status} ${text}`)
}

/**
 * Takes all messages out of the queues until the broker has none in the whole vhost: neither ready, nor under a lease or with a
 * consumer that is gone, nor waiting for a delay. A message that moves between two queues may be missed once, so the queues are
 * drained once more after that. Resolves with the ids.
 */
async function drainAll(instance: Instance, broker: Broker, queues: string[]): Promise<Map<string, string[]>> {
  const ids = new Map<string, string[]>(queues.map((queue) => [queue, []]))
  const drainOnce = async (): Promise<number> => {
    const drained = await Promise.all(queues.map((queue) => drain(instance, queue)))
    for (const [n, some] of drained.entries()) ids.get(queues[n]!)!.push(...some)
    return drained.flat().length
  }
  await drainOnce()
  const deadline = Date.now() + MAX_DRAIN_MS
  for (;;) {
    const empty = await areEmpty(broker)
    const count = await drainOnce()
    if ((empty && count === 0) || Date.now() > deadline) return ids
  }
}

/** Acknowledges the messages of a queue until a receive finds none for a second. Resolves with their ids. */
async function drain(instance: Instance, queue: string): Promise<string[]> {
  const ids: string[] = []
  for (;;) {
    const { status, text } = await instance.request('GET', `/queues/${queue}/messages?max=500&wait=1s&lease=60s`)
    if (status !== 200) throw new Error(`${queue} cannot be drained: ${status} ${text}`)
    const { messages } = JSON.parse(text) as { messages: { payload: string; lease: { id: string } }[] }
    if (messages.length === 0) return ids
    ids.push(...messages.map(({ payload }) => payload))
    const body = JSON.stringify({ ack: messages.map(({ lease }) => lease.id) })
    const settled = await instance.request('POST', '/leases/settle', { headers: { 'content-type': 'application/json' }, body })
    if (JSON.parse(settled.text).failed !== 0) throw new Error(`${queue} cannot be drained: ${settled.text.slice(0, 300)}`)
  }
}

/** Takes all messages out of the gateway's queue of undeliverable ones, which is closed to its clients. */
async function drainUndeliverable(broker: Broker): Promise<string[]> {
  const connection = await amqplib.connect(soakUrl(broker))
  const payloads: string[] = []
  try {
    const channel = await connection.createChannel()
    channel.on('error', () => undefined) // the queue is declared with the first delay
    for (;;) {
      const message = await channel.get(UNDELIVERABLE_QUEUE, { noAck: true }).catch(() => false as const)
      if (!message) return payloads
      payloads.push(message.content.toString())
    }
  } finally {
    await connection.close()
  }
}

/** Whether no other queue of the vhost has a message, ready or unacknowledged. */
async function areEmpty({ ctl }: Broker): Promise<boolean> {
  const lines = await ctl('list_queues', '-p', VHOST, 'name', 'messages', '--quiet', '--no-table-headers')
  return lines.split('\n').every((line) => line.startsWith(`${UNDELIVERABLE_QUEUE}\t`) || !Number(line.split('\t')[1]))
}

/** The connections, consumers and control queues that remain when the gateways have ended. Looks up to 5 times for none. */
async function leftovers({ ctl }: Broker): Promise<string[]> {
  const lines = async (...args: string[]) => (await ctl(...args, '--quiet', '--no-table-headers')).split('\n').filter(Boolean)
  const look = async () => {
    const [connections, queues] = await Promise.all([
      lines('list_connections', 'name'),
      lines('list_queues', '-p', VHOST, 'name', 'consumers'),
    ])
    return [
      ...connections.map((connection) => `connection ${connection}`),
      ...queues
        .filter((line) => !line.startsWith('gateway.definitions\t')) // a stream, whose count of consumers lags behind
        .filter((line) => (line.startsWith('gateway.') && !line.startsWith('gateway.delay.')) || !line.endsWith('\t0'))
        .map((line) => `queue ${line}`),
    ]
  }
  let found: string[] = []
  for (let attempt = 0; attempt < 5; attempt++) {
    found = await look()
    if (found.length === 0) break
    await sleep(1000)
  }
  return found
}
