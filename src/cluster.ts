// Several processes on one port: a primary that serves nothing itself, keeps its workers alive, passes its own end on to them,
// and sums their metrics. Each worker is an instance of its own, as if it ran elsewhere.

import cluster, { type Worker } from 'node:cluster'
import { AggregatorRegistry } from 'prom-client'
import { type Config, endTimeout, rereadsFiles } from './config/index.js'
import type { Log } from './lib/log.js'
import type { Metrics } from './metrics.js'

/** Of one that died, so that one which can't start doesn't eat the machine. */
const RESTART_DELAY_MS = 1000
/** How much longer a worker may take to end than it gives itself. */
const KILL_AFTER_MS = 2000
const METRICS_TIMEOUT_MS = 5000

type ToWorker =
  | { gateway: 'shutdown'; signal?: string }
  | { gateway: 'reload' }
  | { gateway: 'metrics'; id: number; text?: string }
type ToPrimary = { gateway: 'metrics'; id: number }

const isOurs = <T extends { gateway: string }>(message: unknown): message is T =>
  typeof message === 'object' && message !== null && 'gateway' in message

/**
 * Runs WORKERS workers until a signal ends this process: then it waits for all of them, and exits as the worst of them did.
 * A worker that dies by itself is replaced; where the first one can't even start, nothing is.
 */
export function supervise(config: Config, log: Log): void {
  // The kernel hands connections out. Round robin would have each pass through here, and one that is on its way to a worker
  // which dies would hang.
  cluster.schedulingPolicy = cluster.SCHED_NONE
  const metrics = new AggregatorRegistry()
  let ending = false
  let started = false
  let worst = 0

  const end = (signal: string) => {
    if (!ending) log.info({ signal }, 'shutting down')
    ending = true
    for (const worker of workers()) worker.send({ gateway: 'shutdown', signal } satisfies ToWorker)
    setTimeout(() => {
      for (const worker of workers()) worker.process.kill('SIGKILL')
    }, endTimeout(config) + KILL_AFTER_MS)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, end)
  const reload = () => {
    for (const worker of workers()) worker.send({ gateway: 'reload' } satisfies ToWorker)
  }
  if (rereadsFiles(config)) process.on('SIGHUP', reload)
  else process.on('SIGHUP', hasTerminal() ? end : () => undefined)

  cluster.on('listening', (worker) => {
    started = true
    if (ending) worker.send({ gateway: 'shutdown' } satisfies ToWorker) // it could not hear it before
  })
  cluster.on('message', (worker, message: unknown) => {
    if (!isOurs<ToPrimary>(message)) return
    const answer = (text?: string) =>
      worker.isConnected() &&
      worker.send({ gateway: 'metrics', id: message.id, ...(text !== undefined && { text }) } satisfies ToWorker)
    metrics.clusterMetrics().then(answer, () => answer())
  })
  cluster.on('exit', (worker, code, signal) => {
    worst = Math.max(worst, code ?? 1)
    if (ending || !started) {
      if (workers().length === 0) process.exit(worst)
      if (!started) end('a worker that cannot start')
      return
    }
    log.error({ worker: worker.process.pid, code, signal }, 'a worker died, and is replaced')
    worst = 0
    setTimeout(() => ending || cluster.fork(), RESTART_DELAY_MS)
  })
  for (let n = 0; n < config.WORKERS; n++) cluster.fork()
}

/**
 * In a worker: the primary's word ends it; signals, which a terminal sends to all, do not. Where the primary dies, Node.js ends
 * its workers itself.
 */
export function obeyPrimary(orders: { shutDown: (signal?: string) => void; reload: () => void }): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => undefined)
  process.on('message', (message: unknown) => {
    if (!isOurs<ToWorker>(message)) return
    if (message.gateway === 'shutdown') orders.shutDown(message.signal)
    else if (message.gateway === 'reload') orders.reload()
  })
}

/** In a worker: makes `/metrics` answer with the sums of all workers; with its own if the primary does not answer in 5 s. */
export function sumMetrics(metrics: Metrics): void {
  AggregatorRegistry.setRegistries([metrics.registry])
  new AggregatorRegistry() // listens for the primary's questions
  const waiting = new Map<number, (text?: string) => void>()
  let ids = 0
  process.on('message', (message: unknown) => {
    if (isOurs<ToWorker>(message) && message.gateway === 'metrics') waiting.get(message.id)?.(message.text)
  })
  const own = metrics.text
  metrics.text = async () => {
    const id = ++ids
    const sum = await new Promise<string | undefined>((resolve) => {
      const timer = setTimeout(() => resolve(undefined), METRICS_TIMEOUT_MS)
      waiting.set(id, (text) => {
        clearTimeout(timer)
        resolve(text)
      })
      process.send?.({ gateway: 'metrics', id } satisfies ToPrimary)
    })
    waiting.delete(id)
    return sum ?? own()
  }
}

const workers = (): Worker[] =>
  Object.values(cluster.workers ?? {}).filter((worker): worker is Worker => worker !== undefined && !worker.isDead())

/**
 * Whether SIGHUP means that the terminal is gone, which ends the gateway. Under `nohup`, or as a service, there is no terminal.
 * Node resets the signals that its parent ignored, so nothing else tells.
 */
export const hasTerminal = (): boolean => [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY)
