// The end of the process: it serves on until load balancers have noticed, drains, and closes.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from './config/index.js'
import { now } from './lib/clock.js'
import type { Log } from './lib/log.js'
import { Pause } from './lib/pause.js'
import type { Services } from './services.js'

export interface ShutdownOptions {
  config: Config
  log: Log
  services: Pick<Services, 'ending' | 'drain' | 'leases'>
  /** Closes the application, each step within its deadline. */
  close: () => Promise<void>
  /** Whether a person may be at a terminal of this process. */
  hasTerminal: boolean
}

/** The end of the process, in the order that docs/operations.md describes. */
export class Shutdown {
  hasBegun = false
  /** The signal that began it, if it was one. */
  signal: string | undefined
  readonly #options: ShutdownOptions
  readonly #delay = new Pause()
  #isDelayed = false

  constructor(options: ShutdownOptions) {
    this.#options = options
  }

  /** Serves on for SHUTDOWN_DELAY, then drains and closes. After a defect it closes at once. */
  async run(signal = this.signal, defect?: Error): Promise<void> {
    this.hasBegun = true
    const { config, log, services, close, hasTerminal } = this.#options
    if (defect) log.error({ err: defect }, 'shutting down after a defect')
    else log.info({ signal }, 'shutting down')
    services.ending = true
    // Somebody at a terminal waits for the prompt, and no load balancer has to notice.
    const isPerson = signal !== 'SIGTERM' && hasTerminal
    if (!defect && !isPerson) await this.#serveOn(config.SHUTDOWN_DELAY)
    services.drain()
    const end = now() + (defect ? 0 : config.SHUTDOWN_DRAIN)
    while (services.leases.open > 0 && now() < end) await sleep(50)
    await close()
  }

  /** Ends SHUTDOWN_DELAY. @returns whether it was still running */
  hurry(): boolean {
    if (!this.#isDelayed) return false
    this.#delay.end()
    return true
  }

  async #serveOn(delay: number): Promise<void> {
    if (delay === 0) return
    this.#isDelayed = true
    await this.#delay.take(delay)
    this.#isDelayed = false
  }
}
