// The faults of a soak test. Each fault undoes itself.

import type { Broker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { EXOTIC_TAGS, publishExoticHeaders } from '../support/exotic-headers.js'
import type { CuttingProxy } from '../support/proxy.js'
import type { Instance } from './fleet.js'
import type { Journal } from './journal.js'
import { pick } from './load.js'
import { addUser, deleteUser, manage, VHOST } from './management.js'

/** The targets of the faults. */
export interface FaultContext {
  fleet: Instance[]
  /** The node, or the nodes of a cluster. */
  brokers: Broker[]
  journal: Journal
  /** The times at which a node was killed, in milliseconds of Date.now(). */
  brokerCrashes: number[]
  /** The queues that no fault deletes. */
  queues: string[]
  /** The queue that faults delete, and how to declare it again. */
  volatile: { name: string; declare: (instance: Instance) => Promise<void> }
}

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** Resolves when it is over and undone. */
export type Fault = (context: FaultContext) => Promise<void>

/** Of the connections between a gateway and its brokers. */
export const connectionFaults: Record<string, Fault> = {
  'connections reset': async ({ fleet }) => pick(fleet).proxy.reset(),
  'connections finished': async ({ fleet }) => pick(fleet).proxy.finish(),
  // The gateway can write to its sockets during the freeze, but the broker never reads it.
  'connections frozen, then reset': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.freeze()
    await sleep(300)
    proxy.reset()
    proxy.thaw()
  },
  'connections refused': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.refuse()
    proxy.reset()
    await sleep(1000)
    await proxy.accept()
  },
  'connections frozen for longer than the heartbeat': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.freeze()
    await sleep(3000 + Math.random() * 5000)
    proxy.thaw()
  },
  'slow connections': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.slow(20_000)
    await sleep(2000)
    proxy.thaw()
  },
}

/** Of the HTTP connections between gateways. */
export const forwardingFaults: Record<string, Fault> = {
  'HTTP between gateways reset': async ({ fleet }) => pick(httpProxies(fleet)).reset(),
  'HTTP between gateways frozen, then reset': async ({ fleet }) => {
    const proxy = pick(httpProxies(fleet))
    proxy.freeze()
    await sleep(1000)
    proxy.reset()
    proxy.thaw()
  },
}

const httpProxies = (fleet: Instance[]): CuttingProxy[] =>
  fleet.map(({ httpProxy }) => httpProxy).filter((proxy) => proxy !== undefined)

/** Of all gateways but the last: that one runs to the end, to show whether its memory grows. */
export const gatewayFaults: Record<string, Fault> = {
  'a gateway killed': async ({ fleet }) => pick(fleet.slice(0, -1)).signal('SIGKILL'),
  'a gateway terminated': async ({ fleet }) => pick(fleet.slice(0, -1)).signal('SIGTERM'),
}

/** Of the broker, without a restart. */
export const brokerFaults: Record<string, Fault> = {
  'all connections closed by an administrator': async ({ brokers }) => {
    await pick(brokers).ctl('close_all_connections', 'soak')
  },
  'a user deleted': async ({ brokers, fleet }) => {
    const { user } = pick(fleet)
    const broker = pick(brokers)
    await deleteUser(broker, user)
    await sleep(1000)
    await addUser(broker, user)
  },
  'a memory alarm': async ({ brokers }) => {
    const broker = pick(brokers)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    await sleep(1500)
    await broker.ctl('set_vm_memory_high_watermark', '0.6')
  },
}

/** Changes to queues by other programs while the gateways use them. */
export const queueFaults: Record<string, Fault> = {
  'a queue deleted and declared again': async ({ brokers, fleet, journal, volatile: { name, declare } }) => {
    const deletion = { queue: name, recreatedAt: Number.POSITIVE_INFINITY }
    journal.deletions.push(deletion)
    // By another program or through a gateway. A deletion that fails is not repeated.
    const deleting =
      Math.random() < 0.5
        ? manage(pick(brokers), 'DELETE', `queues/${VHOST}/${name}`)
        : pick(fleet).request('DELETE', `/queues/${name}`)
    await deleting.catch(() => undefined)
    await eventually(() => declare(pick(fleet)), 60_000)
    deletion.recreatedAt = Date.now()
  },
  'messages with exotic headers published': async ({ brokers, journal, queues }) => {
    const queue = pick(queues)
    const requestedAt = Date.now()
    const messages = [...EXOTIC_TAGS].map((tag) => ({ tag, body: `exotic-${requestedAt}-${tag}` }))
    const confirmed = await publishExoticHeaders(soakUrl(pick(brokers)), queue, messages)
    const answeredAt = Date.now()
    for (const { body: id } of messages)
      journal.publishes.push({ id, queue, requestedAt, answeredAt, outcome: confirmed.includes(id) ? 'confirmed' : 'unknown' })
  },
}

/** The AMQP URL of the soak test's vhost at a node. */
export const soakUrl = ({ url }: Broker): string => `${url.replace(/\/$/, '')}/${VHOST}`

/** Of a single node. */
export const restartFaults: Record<string, Fault> = {
  'the broker stopped and started': async ({ brokers }) => {
    const broker = pick(brokers)
    await broker.stop()
    await broker.start()
  },
}

/** Of a single node, which may lose its latest writes: the invariants excuse settles right before a crash. */
export const crashFaults: Record<string, Fault> = {
  'the broker killed': async ({ brokers, brokerCrashes }) => {
    const broker = pick(brokers)
    brokerCrashes.push(Date.now())
    await broker.kill()
    brokerCrashes.push(Date.now())
    await broker.start()
  },
}

/** Of a cluster: writes that a majority has confirmed survive, so the invariants excuse nothing. */
export const clusterFaults: Record<string, Fault> = {
  'the leader of a queue killed': async ({ brokers }) => {
    const lines = await brokers[0]!.ctl('list_queues', '-p', VHOST, 'name', 'leader', '--quiet', '--no-table-headers')
    const leader = lines.split('\n').find((line) => line.includes('.a\t'))
    const broker = brokers.find(({ node }) => leader?.endsWith(node)) ?? pick(brokers)
    await broker.kill()
    await broker.start()
  },
  'a node stopped and started': async ({ brokers }) => {
    const broker = pick(brokers)
    await broker.stop()
    await broker.start()
  },
}

/**
 * Injects one fault after another until `stopped` returns true, and resolves when the last of them is undone.
 * @param every the mean pause between two faults, in milliseconds
 */
export async function injectFaults(
  context: FaultContext,
  faults: Record<string, Fault>,
  stopped: () => boolean,
  every: number,
): Promise<void> {
  const names = Object.keys(faults)
  for (let n = 0; !stopped(); n++) {
    await sleep(every * (0.5 + Math.random()))
    if (stopped()) return
    // Each once in order, then at random.
    const name = n < names.length ? names[n]! : pick(names)
    context.journal.faults.push({ at: Date.now(), name })
    await faults[name]!(context)
  }
}
