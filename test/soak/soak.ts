// A storm: a fleet, a load, faults, and when it is over the proof.

import type { Broker } from '../../scripts/broker.mjs'
import { UNDELIVERABLE_QUEUE } from '../../src/delay/levels.js'
import { consumerTimeout } from '../support/consumer-timeout.js'
import { eventually } from '../support/eventually.js'
import { type Fault, rage, type Scene, urlOf } from './faults.js'
import { type Instance, startFleet } from './fleet.js'
import { check, type Remains, type Report } from './invariants.js'
import { Journal } from './journal.js'
import { Load } from './load.js'
import { addUser, manage, VHOST } from './management.js'
import { type Memory, memoryOf, residentMiB } from './memory.js'

export interface StormOptions {
  /** One node, or the nodes of a cluster. */
  brokers: Broker[]
  queueType: 'classic' | 'quorum'
  /** Milliseconds of faults. */
  duration: number
  /** What happens: those at the same time in lists of their own, with milliseconds between two of them. */
  faults: { faults: Record<string, Fault>; every: number }[]
  /** The program to run as a gateway. */
  program?: string
  /** Told once a second. */
  onProgress?: (text: string) => void
}

export interface StormResult {
  report: Report
  journal: Journal
  /** Ends of gateways that nobody asked for. */
  crashed: string[]
  /** Of each gateway that lived through it all. */
  memory: Memory[]
}

/** What a broker for storms is started with: it waits for no more than seconds, longer than a worker in order takes. */
export const STORM_BROKER = consumerTimeout(6)
const USERS = ['storm-1', 'storm-2', 'storm-3']

/** Milliseconds that a request may take beyond what it waits for on purpose: the broker's slowest calls, one after the other. */
export const LONGEST = 15_000

let storms = 0

/** Runs a storm in a vhost of its own. Resolves when everything has come to rest and was counted. */
export async function storm(options: StormOptions): Promise<StormResult> {
  const { brokers, queueType, duration, faults, program, onProgress = () => undefined } = options
  const [first] = brokers
  await manage(first!, 'PUT', `vhosts/${VHOST}`, {})
  for (const user of ['guest', ...USERS]) await allow(first!, user)
  const fleet = await startFleet({ brokers: brokers.map(urlOf), users: USERS, ...(program && { program }) })
  const name = `${queueType}-${++storms}`
  const queues = [`${name}.a`, `${name}.b`]
  const doomed = `${name}.c`
  const dead = `${name}.dead`
  // Since 4.0 a quorum queue drops what was given back often; here nothing may go without a trace.
  const limit = queueType === 'quorum' ? { 'x-delivery-limit': 1_000_000 } : {}
  const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead, ...limit }
  await eventually(() => declare(fleet[0]!, dead, queueType, {}), 30_000)
  for (const queue of [...queues, doomed]) await eventually(() => declare(fleet[0]!, queue, queueType, args), 30_000)
  const journal = new Journal()
  const again = { name: doomed, declare: (instance: Instance) => declare(instance, doomed, queueType, args) }
  const scene: Scene = { fleet, brokers, journal, crashes: [], queues, doomed: again }
  const load = new Load(fleet, [...queues, doomed], journal)
  const pids = fleet.map(({ pid }) => pid)
  const samples: number[][] = pids.map(() => [])
  const sample = () => {
    for (const [n, pid] of pids.entries()) {
      const resident = fleet[n]!.pid === pid ? residentMiB(pid) : undefined
      if (resident !== undefined) samples[n]!.push(resident)
    }
  }

  const end = Date.now() + duration
  const progress = setInterval(() => {
    const left = Math.max(0, Math.round((end - Date.now()) / 1000))
    onProgress(
      `${left} s left, ${journal.faults.length} faults, ${journal.publishes.length} published, ${journal.settles.length} settles`,
    )
  }, 1000)
  load.start({ producers: 4, workers: 12, readers: 3, sluggards: 1, deaf: 1 })
  const sampling = setInterval(sample, duration / 100)
  await Promise.all(faults.map((some) => rage(scene, some.faults, () => Date.now() > end, some.every)))
  const rest = end - Date.now()
  if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest))
  await load.stop()
  clearInterval(progress)
  clearInterval(sampling)

  onProgress('coming to rest')
  for (const { proxy } of fleet) proxy.thaw()
  await Promise.all(fleet.map((instance) => instance.ready()))
  const memory = samples.filter((_, n) => fleet[n]!.pid === pids[n]).map(memoryOf)
  const all = [dead, UNDELIVERABLE_QUEUE, ...queues, doomed]
  const found = await Promise.all(all.map((queue) => drain(fleet[0]!, queue)))
  // A node that was killed may leave messages with consumers that are gone, until the others see that they are.
  for (let attempt = 0; attempt < 12 && !(await areEmpty(first!)); attempt++) {
    const more = await Promise.all(all.map((queue) => drain(fleet[0]!, queue)))
    for (const [n, ids] of more.entries()) found[n]!.push(...ids)
  }
  const [deadIds, undeliverable, ...left] = found
  const queued = new Map([...queues, doomed].map((queue, n) => [queue, left[n]!]))
  await Promise.all(fleet.map((instance) => instance.stop()))
  const remains: Remains = { queued, dead: [...deadIds!, ...undeliverable!], leftovers: await leftovers(first!) }
  const report = check(journal, remains, { crashes: scene.crashes })
  return { report, journal, crashed: fleet.flatMap(({ crashes }) => crashes), memory }
}

async function allow(broker: Broker, user: string): Promise<void> {
  if (user !== 'guest') return addUser(broker, user)
  await manage(broker, 'PUT', `permissions/${VHOST}/${user}`, { configure: '.*', write: '.*', read: '.*' })
}

async function declare(instance: Instance, queue: string, type: string, args: object): Promise<void> {
  const { status, text } = await instance.ask('PUT', `/queues/${queue}`, {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type, arguments: args }),
  })
  if (status >= 300) throw new Error(`${queue}: ${status} ${text}`)
}

/** Takes everything out, and resolves with the ids once nothing has come for longer than any lease can last. */
async function drain(instance: Instance, queue: string): Promise<string[]> {
  const ids: string[] = []
  for (let empty = false; !empty; ) {
    const { status, text } = await instance.ask('GET', `/queues/${queue}/messages?max=500&wait=5s&lease=60s`)
    if (status === 404 && queue === UNDELIVERABLE_QUEUE) return [] // nothing was delayed
    if (status !== 200) throw new Error(`${queue} can not be drained: ${status} ${text}`)
    const { messages } = JSON.parse(text) as { messages: { payload: string; lease: { id: string } }[] }
    empty = messages.length === 0
    ids.push(...messages.map(({ payload }) => payload))
    if (empty) break
    const body = JSON.stringify({ ack: messages.map(({ lease }) => lease.id) })
    const settled = await instance.ask('POST', '/leases/settle', { headers: { 'content-type': 'application/json' }, body })
    if (JSON.parse(settled.text).failed !== 0) throw new Error(`${queue} can not be drained: ${settled.text.slice(0, 300)}`)
  }
  return ids
}

/** Whether no queue has a message, ready or out with a consumer. */
async function areEmpty({ ctl }: Broker): Promise<boolean> {
  const counts = await ctl('list_queues', '-p', VHOST, 'messages', '--quiet', '--no-table-headers')
  return counts.split('\n').every((count) => !Number(count))
}

/** What gateways that have ended left on the broker; it may take the broker a moment to see the last of them go. */
async function leftovers({ ctl }: Broker): Promise<string[]> {
  const lines = async (...args: string[]) => (await ctl(...args, '--quiet', '--no-table-headers')).split('\n').filter(Boolean)
  const look = async () => [
    ...(await lines('list_connections', 'name')).map((name) => `connection ${name}`),
    ...(await lines('list_queues', '-p', VHOST, 'name', 'consumers'))
      .filter((line) => (line.startsWith('gateway.') && !line.startsWith('gateway.delay.')) || !line.endsWith('\t0'))
      .map((line) => `queue ${line}`),
  ]
  let found: string[] = []
  for (let attempt = 0; attempt < 5; attempt++) {
    found = await look()
    if (found.length === 0) break
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
  return found
}
