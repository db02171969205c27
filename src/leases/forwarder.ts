// Carries commands to the instance that holds the leases: to its advertised address if it has one, otherwise through RabbitMQ,
// which alone can tell that the holder is gone. Never claims more about a settle than is known.

import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Config } from '../config/index.js'
import type { Instances } from '../instances/client.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import { failedResult, goneResult, type LeaseCommand, type LeaseResult, settleOutcomeUnknown } from './commands.js'

/** How much longer the answer may take than the holder waits for its own barrier. */
const ANSWER_MARGIN_MS = 500
/** Between two looks whether the holder's queue still exists, while an answer is awaited. */
const PROBE_INTERVAL_MS = 300
/** A message to the holder that asks for nothing. */
const PROBE = Buffer.from(JSON.stringify({ commands: [] }))

/** The instance that holds leases, and how to reach it. */
export interface LeaseHolder {
  epoch: string
  vhost: string
  /** The leases are on connections of RabbitMQ users: the control queue is the instance's, in the default vhost. */
  ofLogin: boolean
  /** The name of the instance, if it advertises an address. */
  instance: string | undefined
}

export interface ForwarderOptions {
  config: Config
  metrics: Metrics
  log: Log
  vhosts: Vhosts
  /** Undefined without ADVERTISE_URL: everything goes through RabbitMQ then. */
  instances: Instances | undefined
}

/** Sends lease commands to other instances. */
export class Forwarder {
  readonly #options: ForwarderOptions
  /** Milliseconds. Longer than the holder waits for its barrier, so that it can tell how that ended. */
  readonly #timeout: number

  constructor(options: ForwarderOptions) {
    this.#options = options
    this.#timeout = options.config.BROKER_TIMEOUT + ANSWER_MARGIN_MS
  }

  /** Resolves with a result for each command, in order. Never throws. */
  async forward(holder: LeaseHolder, commands: LeaseCommand[]): Promise<LeaseResult[]> {
    const body = Buffer.from(JSON.stringify({ commands }))
    const { instance, epoch } = holder
    const direct = instance === undefined ? undefined : await this.#options.instances?.ask(instance, epoch, body, this.#timeout)
    if (direct?.answer) return this.#answered(direct.answer, commands, false)
    return this.#throughBroker(holder, commands, body, direct?.mayHaveArrived ?? false)
  }

  /** @param sentBefore whether the commands were sent once already, and the answer is unknown */
  async #throughBroker(
    { vhost: name, epoch, ofLogin }: LeaseHolder,
    commands: LeaseCommand[],
    body: Buffer,
    sentBefore: boolean,
  ): Promise<LeaseResult[]> {
    const { metrics, log, vhosts } = this.#options
    const onSwallowed = () => {
      sentBefore = true
    }
    try {
      const vhost = await vhosts.get(ofLogin ? undefined : name)
      // The queue of a dying holder may still swallow a command. The same one again finds the queue gone, or the settle done.
      const answer = await this.#ask(vhost, epoch, body, onSwallowed).catch((error) => {
        if (sentBefore || !(error instanceof Problem) || error.code !== 'rpc_timeout') throw error
        sentBefore = true
        return this.#ask(vhost, epoch, body, onSwallowed)
      })
      return this.#answered(answer, commands, sentBefore)
    } catch (error) {
      // The instance's own queue may be missing while the instance still runs; only an epoch's queue proves that it is gone.
      if (!ofLogin && isUnroutable(error)) {
        metrics.forwarded('gone', commands.length)
        // The holder may have settled the lease and died before it could answer.
        return commands.map(({ op }) => (sentBefore && op === 'settle' ? settleOutcomeUnknown() : goneResult()))
      }
      log.warn({ err: error, epoch }, 'holder of a lease is unreachable')
      metrics.forwarded('unreachable', commands.length)
      return commands.map(() =>
        failedResult('lease_unreachable', 'The instance that holds the lease cannot be reached. Try again later.'),
      )
    }
  }

  #answered(answer: Buffer, commands: LeaseCommand[], sentBefore: boolean): LeaseResult[] {
    this.#options.metrics.forwarded('answered', commands.length)
    const { results } = JSON.parse(answer.toString('utf8')) as { results: LeaseResult[] }
    // A lease that is gone now may have been settled by the first command, whose answer was lost.
    return results.map((result, n) =>
      sentBefore && commands[n]?.op === 'settle' && !result.ok && result.code === 'lease_gone' ? settleOutcomeUnknown() : result,
    )
  }

  /**
   * Sends a command and waits for the answer. The queue of a dying holder may swallow the command, and then no answer comes. So
   * the queue is probed while the answer is awaited: a probe that no queue takes ends the wait.
   * @param onSwallowed called if the command reached the queue, which is gone now
   * @throws Problem unroutable: the queue is gone; rpc_timeout, broker_blocked, broker_unavailable
   */
  #ask(vhost: Vhost, epoch: string, body: Buffer, onSwallowed: () => void): Promise<Buffer> {
    return new Promise<Buffer>((resolve, reject) => {
      const probe = () => {
        vhost.sendCommand(epoch, PROBE, PROBE_INTERVAL_MS).catch((error: unknown) => {
          if (!isUnroutable(error)) return
          onSwallowed()
          reject(error)
        })
      }
      const probing = setInterval(probe, PROBE_INTERVAL_MS)
      vhost
        .sendCommand(epoch, body, this.#timeout)
        .then(resolve, reject)
        .finally(() => clearInterval(probing))
    })
  }
}

const isUnroutable = (error: unknown): error is Problem => error instanceof Problem && error.code === 'unroutable'
