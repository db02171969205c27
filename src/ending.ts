// The end of the process: it serves on until load balancers have noticed, drains, and closes.

import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from './app.js'
import { hasTerminal } from './cluster.js'
import type { Config } from './config/index.js'
import { Pause } from './lib/pause.js'

/** The end of the process, in the order that docs/operations.md describes. */
export class Ending {
  hasBegun = false
  /** The signal that began it, if it was one. */
  signal: string | undefined
  readonly #app: App
  readonly #config: Config
  readonly #delay = new Pause()
  #isDelayed = false

  constructor(app: App, config: Config) {
    this.#app = app
    this.#config = config
  }

  /** Serves on for SHUTDOWN_DELAY, then drains and closes. After a defect it closes at once. */
  async run(signal = this.signal, defect?: Error): Promise<void> {
    this.hasBegun = true
    const { http, services, close } = this.#app
    if (defect) http.log.error({ err: defect }, 'shutting down after a defect')
    else http.log.info({ signal }, 'shutting down')
    services.ending = true
    // Somebody at a terminal waits for the prompt, and no load balancer has to notice.
    const isPerson = signal !== 'SIGTERM' && hasTerminal()
    if (!defect && !isPerson) await this.#serveOn()
    services.drain()
    const end = performance.now() + (defect ? 0 : this.#config.SHUTDOWN_DRAIN)
    while (services.leases.open > 0 && performance.now() < end) await sleep(50)
    await close()
  }

  /** Ends SHUTDOWN_DELAY. @returns whether it was still running */
  hurry(): boolean {
    if (!this.#isDelayed) return false
    this.#delay.end()
    return true
  }

  async #serveOn(): Promise<void> {
    const { SHUTDOWN_DELAY } = this.#config
    if (SHUTDOWN_DELAY === 0) return
    this.#isDelayed = true
    await this.#delay.take(SHUTDOWN_DELAY)
    this.#isDelayed = false
  }
}
