// Where other instances are reached over HTTP. They tell each other in the log of definitions, and sign what they tell: neither
// a client nor anybody else who may write to RabbitMQ can make an instance call an address.

import type { Definitions } from '../definitions/definitions.js'
import type { Log } from '../lib/log.js'
import { Pause } from '../lib/pause.js'
import type { Signatures } from './signature.js'

const TOPIC = 'address'
/** How often an instance tells its address again, since RabbitMQ does not keep the log for ever. */
const REPEAT_MS = 60_000
const RETRY_MS = 1000

export interface AddressesOptions {
  definitions: Definitions
  log: Log
  signatures: Signatures
  /** The name of this instance. */
  instance: string
  /** Its ADVERTISE_URL. */
  url: string
}

/** Tells the other instances this one's address from now on, and knows theirs. */
export class InstanceAddresses {
  readonly #options: AddressesOptions
  readonly #rest = new Pause()
  #isClosed = false

  constructor(options: AddressesOptions) {
    this.#options = options
    void this.#run()
  }

  /** The URL of another instance; undefined if it has told none. */
  of(instance: string): string | undefined {
    const { definitions, signatures } = this.#options
    const { url, signature } = (definitions.lastBroadcast(TOPIC, instance)?.value ?? {}) as Record<string, unknown>
    return typeof url === 'string' && signatures.isAddress(instance, url, signature) ? url : undefined
  }

  /** Stops telling. */
  close(): void {
    this.#isClosed = true
    this.#rest.end()
  }

  async #run(): Promise<void> {
    let hasFailed = false
    while (!this.#isClosed) {
      const error = await this.#tell().then(
        () => undefined,
        (reason: unknown) => reason,
      )
      if (error && !hasFailed)
        this.#options.log.warn(
          { err: error },
          'other instances cannot be told the address of this one yet; they go through RabbitMQ',
        )
      hasFailed = error !== undefined
      if (!this.#isClosed) await this.#rest.take(hasFailed ? RETRY_MS : REPEAT_MS)
    }
  }

  async #tell(): Promise<void> {
    const { definitions, signatures, instance, url } = this.#options
    await definitions.open()
    await definitions.broadcast(TOPIC, { url, signature: signatures.signAddress(instance, url) })
  }
}
