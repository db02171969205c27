// What goes wrong in a storm. Each fault undoes itself.

import type { Broker } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { ODD_TAGS, publishOddTypes } from '../support/exotic-headers.js'
import type { Instance } from './fleet.js'
import type { Journal } from './journal.js'
import { pick } from './load.js'
import { addUser, deleteUser, manage, VHOST } from './management.js'

export interface Scene {
  fleet: Instance[]
  /** The node, or the nodes of a cluster. */
  brokers: Broker[]
  journal: Journal
  /** When a node was killed. */
  crashes: number[]
  /** Those whose messages have to stay. */
  queues: string[]
  /** The one that is deleted, and how it is declared again. */
  doomed: { name: string; declare: (instance: Instance) => Promise<void> }
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds))

export type Fault = (scene: Scene) => Promise<void>

export const connectionFaults: Record<string, Fault> = {
  'a connection reset': async ({ fleet }) => pick(fleet).proxy.reset(),
  'a connection finished': async ({ fleet }) => pick(fleet).proxy.finish(),
  // What a gateway wrote in between is lost, though it could write it.
  'a line cut after it stood still': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.freeze()
    await pause(300)
    proxy.reset()
    proxy.thaw()
  },
  'connections refused': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.refuse()
    proxy.reset()
    await pause(1000)
    await proxy.accept()
  },
  'a line frozen for longer than the heartbeat': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.freeze()
    await pause(3000 + Math.random() * 5000)
    proxy.thaw()
  },
  'a slow line': async ({ fleet }) => {
    const { proxy } = pick(fleet)
    proxy.slow(20_000)
    await pause(2000)
    proxy.thaw()
  },
}

/** Between one gateway and another that asks it over HTTP. */
export const doorFaults: Record<string, Fault> = {
  'the way between gateways cut': async ({ fleet }) => pick(fleet.filter(({ door }) => door)).door!.reset(),
  'the way between gateways frozen, then cut': async ({ fleet }) => {
    const { door } = pick(fleet.filter(({ door }) => door))
    door!.freeze()
    await pause(1000)
    door!.reset()
    door!.thaw()
  },
}

/** The last gateway is spared: what lives through it all shows whether memory grows. */
export const gatewayFaults: Record<string, Fault> = {
  'a gateway killed': async ({ fleet }) => pick(fleet.slice(0, -1)).signal('SIGKILL'),
  'a gateway told to end': async ({ fleet }) => pick(fleet.slice(0, -1)).signal('SIGTERM'),
}

export const brokerFaults: Record<string, Fault> = {
  'all connections closed by the operator': async ({ brokers }) => {
    await pick(brokers).ctl('close_all_connections', 'storm')
  },
  'a user deleted': async ({ brokers, fleet }) => {
    const { user } = pick(fleet)
    const broker = pick(brokers)
    await deleteUser(broker, user)
    await pause(1000)
    await addUser(broker, user)
  },
  'a memory alarm': async ({ brokers }) => {
    const broker = pick(brokers)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    await pause(1500)
    await broker.ctl('set_vm_memory_high_watermark', '0.6')
  },
}

/** What others do to queues, while the gateways work on them. */
export const queueFaults: Record<string, Fault> = {
  'a queue deleted and declared again': async ({ brokers, fleet, journal, doomed: { name, declare } }) => {
    const deletion = { queue: name, until: Number.POSITIVE_INFINITY }
    journal.deletions.push(deletion)
    // By another program or through a gateway; where it does not come about, it is another time.
    const deleting =
      Math.random() < 0.5
        ? manage(pick(brokers), 'DELETE', `queues/${VHOST}/${name}`)
        : pick(fleet).ask('DELETE', `/queues/${name}`)
    await deleting.catch(() => undefined)
    await eventually(() => declare(pick(fleet)), 60_000)
    deletion.until = Date.now()
  },
  'messages that break client libraries': async ({ brokers, journal, queues }) => {
    const queue = pick(queues)
    const asked = Date.now()
    const messages = [...ODD_TAGS].map((tag) => ({ tag, body: `odd-${asked}-${tag}` }))
    const confirmed = await publishOddTypes(urlOf(pick(brokers)), queue, messages)
    for (const { body: id } of messages)
      journal.publishes.push({ id, queue, asked, outcome: confirmed.includes(id) ? 'confirmed' : 'unknown' })
  },
}

/** The storm's vhost at a node. */
export const urlOf = ({ url }: Broker): string => `${url.replace(/\/$/, '')}/${VHOST}`

export const restarts: Record<string, Fault> = {
  'the broker stopped and started': async ({ brokers }) => {
    const broker = pick(brokers)
    await broker.stop()
    await broker.start()
  },
}

export const crashes: Record<string, Fault> = {
  'the broker killed': async ({ brokers, crashes }) => {
    const broker = pick(brokers)
    crashes.push(Date.now())
    await broker.kill()
    crashes.push(Date.now())
    await broker.start()
  },
}

/** Of a cluster: what a majority has taken survives, so nothing is forgiven. */
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

/** Lets one fault after another happen until it is stopped, at most one of the slow ones at a time. */
export async function rage(scene: Scene, faults: Record<string, Fault>, stopped: () => boolean, every: number): Promise<void> {
  const names = Object.keys(faults)
  for (let n = 0; !stopped(); n++) {
    await pause(every * (0.5 + Math.random()))
    if (stopped()) return
    // Each at least once where there is time, then as chance has it.
    const name = n < names.length ? names[n]! : pick(names)
    scene.journal.faults.push({ at: Date.now(), name })
    await faults[name]!(scene)
  }
}
