// A cluster of RabbitMQ nodes on this machine.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { freePort, startBroker } from './broker.mjs'

/**
 * Starts nodes one after the other and joins them to the first.
 * @param {object} options
 * @param {string} options.dir keeps a folder for each
 * @param {number} [options.nodes] 3 unless given
 * @param {string} [options.root] as of startBroker()
 * @param {string} [options.config]
 * @param {string} [options.advanced]
 * @returns {Promise<import('./broker.mjs').Broker[]>}
 */
export async function startCluster({ dir, nodes = 3, root, config = '', advanced }) {
  // A port mapper for all, which no node's end takes along.
  const epmdPort = await freePort()
  const epmd = spawn('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1'], { stdio: 'ignore' })
  process.on('exit', () => epmd.kill())
  const cookie = `cluster${process.pid}`
  // In a minority a node waits, instead of going on by itself: the setting for quorum queues.
  const lines = `cluster_partition_handling = pause_minority\n${config}`
  /** @type {import('./broker.mjs').Broker[]} */
  const brokers = []
  for (let n = 1; n <= nodes; n++) {
    const [first] = brokers
    const broker = await startBroker({
      dir: join(dir, `node${n}`),
      name: `gateway${n}`,
      cookie,
      config: lines,
      ...(advanced && { advanced }),
      epmdPort,
      ...(root && { root }),
    })
    brokers.push(broker)
    if (!first) continue
    await broker.ctl('stop_app')
    await broker.ctl('join_cluster', first.node)
    await broker.ctl('start_app')
  }
  return brokers
}
