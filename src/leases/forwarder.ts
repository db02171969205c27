// Carries commands to the instance that holds the leases: straight to the address that it advertises, where it does, or else
// through RabbitMQ, which alone can say that an owner is gone. Tells of a settle no more than is known.

import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'
import { failedResult, goneResult, type LeaseCommand, type LeaseResult, settleOutcomeUnknown } from './commands.js'

const ANSWER_MARGIN_MS = 500

/** Who holds leases. */
export interface LeaseHolder {
  epoch: string
  vhost: string
  /** They are on connections of other users: its control queue is that of the whole instance, in the default vhost. */
  ofLogin: boolean
  /** Where it is reached over HTTP. */
  url: string | undefined
}

/**
 * Asks an instance at its own address. Without an answer it says whether the commands may have been carried out all the same.
 * Never throws.
 */
export type AskDirectly = (
  url: string,
  epoch: string,
  commands: Buffer,
  timeout: number,
) => Promise<{ answer: Buffer } | { answer: undefined; mayHaveArrived: boolean }>

export interface ForwarderOptions {
  config: Config
  metrics: Metrics
  log: Log
  vhosts: () => Vhosts
  /** Absent: everything goes through RabbitMQ. */
  askDirectly?: AskDirectly | undefined
}

export class Forwarder {
  readonly #options: ForwarderOptions
  /** Longer than the owner waits for its barrier, so that it can say how that ended. */
  readonly #timeout: number

  constructor(options: ForwarderOptions) {
    this.#options = options
    this.#timeout = options.config.BROKER_TIMEOUT + ANSWER_MARGIN_MS
  }

  /** Resolves with a result for each command, in order. */
  async forward(owner: LeaseHolder, commands: LeaseCommand[]): Promise<LeaseResult[]> {
    const body = Buffer.from(JSON.stringify({ commands }))
    const { url, epoch } = owner
    const direct = url === undefined ? undefined : await this.#options.askDirectly?.(url, epoch, body, this.#timeout)
    if (direct?.answer) return this.#answered(direct.answer, commands, false)
    return this.#throughBroker(owner, commands, body, direct?.mayHaveArrived ?? false)
  }

  /** @param unanswered whether they were sent before, and the answer is not known */
  async #throughBroker(
    { vhost: name, epoch, ofLogin }: LeaseHolder,
    commands: LeaseCommand[],
    body: Buffer,
    unanswered: boolean,
  ): Promise<LeaseResult[]> {
    const { metrics, log, vhosts } = this.#options
    try {
      const vhost = await vhosts().get(ofLogin ? undefined : name)
      // A dying owner's queue may still swallow a command; the same one again finds it gone, or its settle done.
      const answer = await this.#ask(vhost, epoch, body).catch((error) => {
        if (unanswered || !(error instanceof Problem) || error.code !== 'rpc_timeout') throw error
        unanswered = true
        return this.#ask(vhost, epoch, body)
      })
      return this.#answered(answer, commands, unanswered)
    } catch (error) {
      // An instance that can't be found by its name is not gone: only its queue may be.
      if (!ofLogin && error instanceof Problem && error.code === 'unroutable') {
        metrics.forwarded('gone', commands.length)
        // The owner may have settled it and died before it could say so.
        return commands.map(({ op }) => (unanswered && op === 'settle' ? settleOutcomeUnknown() : goneResult()))
      }
      log.warn({ err: error, epoch }, 'the owner of a lease can not be reached')
      metrics.forwarded('unreachable', commands.length)
      return commands.map(() => failedResult('lease_unreachable', "The instance that holds the lease can't be reached just now."))
    }
  }

  #answered(answer: Buffer, commands: LeaseCommand[], unanswered: boolean): LeaseResult[] {
    this.#options.metrics.forwarded('answered', commands.length)
    const { results } = JSON.parse(answer.toString('utf8')) as { results: LeaseResult[] }
    // What is over now may be so by the first command, whose answer nobody had.
    const overBy = ({ op }: LeaseCommand, result: LeaseResult) =>
      unanswered && op === 'settle' && !result.ok && result.code === 'lease_gone'
    return results.map((result, n) => (overBy(commands[n]!, result) ? settleOutcomeUnknown() : result))
  }

  #ask(vhost: Vhost, epoch: string, body: Buffer): Promise<Buffer> {
    return vhost.sendCommand(epoch, body, this.#timeout)
  }
}
