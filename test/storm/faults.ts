// What goes wrong in a storm. Each fault undoes itself.

import type { Broker } from '../../scripts/broker.mjs'
import type { Instance } from './fleet.js'
import type { Journal } from './journal.js'
import { pick } from './load.js'

export interface Scene {
  fleet: Instance[]
  /** The node, or the nodes of a cluster. */
  brokers: Broker[]
  journal: Journal
  /** When a node was killed. */
  crashes: number[]
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

/** The last gateway is spared: what lives through it all shows whether memory grows. */
export const gatewayFaults: Record<string, Fault> = {
  'a gateway killed': async ({ fleet }) => pick(fleet.slice(0, -1)).signal('SIGKILL'),
  'a gateway told to end': async ({ fleet }) => pick(fleet.slice(0, -1)).signal('SIGTERM'),
}

export const brokerFaults: Record<string, Fault> = {
  'all connections closed by the operator': async ({ brokers }) => {
    await pick(brokers).ctl('close_all_connections', 'storm')
  },
  'a memory alarm': async ({ brokers }) => {
    const broker = pick(brokers)
    await broker.ctl('set_vm_memory_high_watermark', '0.00001')
    await pause(1500)
    await broker.ctl('set_vm_memory_high_watermark', '0.6')
  },
}

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
    const lines = await brokers[0]!.ctl('list_queues', '-p', 'storm', 'name', 'leader', '--quiet', '--no-table-headers')
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
