// Receiving, from the request to the moment when the answer has reached the client or is known not to.

import type { Delivery } from '../amqp/consume/delivery.js'
import { giveBack, type Interrupt } from '../amqp/consume/receive.js'
import type { Vhost } from '../amqp/vhost.js'
import type { Vhosts } from '../amqp/vhosts.js'
import type { Login } from '../amqp/wire/connection.js'
import type { Config } from '../config/index.js'
import type { Leases } from '../leases/leases.js'
import type { Lease } from '../leases/table.js'
import type { AckMode, Metrics } from '../metrics.js'
import { Problem } from '../problems.js'

export interface ReceiveRequest {
  vhost: string | undefined
  login?: Login | undefined
  queue: string
  ack: AckMode
  /** 1 to 1000. */
  max: number
  /** Milliseconds to wait for the first message. */
  wait: number
  /** Milliseconds that each lease lasts, with `ack: 'manual'`. */
  lease: number
}

/** What a receive got: each delivery with its lease, where it has one. */
export type Received = { delivery: Delivery; lease: Lease | undefined }[]

/** A client that waits for the answer to its receive. */
export interface ReceiveClient {
  /** Fired when the client goes away while the receive runs. */
  interrupt: Interrupt
  /** Calls back once, when the answer has been written out, or when the client went away before. */
  onEnd: (listener: (written: boolean) => void) => void
  /** The gateway's own, which counts for no limit on receives that wait, and in no metric of receives. */
  internal?: boolean
}

export class Receiver {
  readonly #config: Config
  readonly #metrics: Metrics
  readonly #vhosts: Vhosts
  readonly #leases: Leases
  readonly #running = new Set<Interrupt>()
  #waiting = 0
  #draining = false

  constructor(options: { config: Config; metrics: Metrics; vhosts: Vhosts; leases: Leases }) {
    this.#config = options.config
    this.#metrics = options.metrics
    this.#vhosts = options.vhosts
    this.#leases = options.leases
  }

  get isDraining(): boolean {
    return this.#draining
  }

  get waiting(): number {
    return this.#waiting
  }

  /**
   * Takes messages and forms the answer of them. Whatever does not reach the client goes back to the queue, in order: when
   * `form` throws, when the client goes away while it waits, and when it goes away before the answer is written out.
   * @returns what `form` made; undefined where the client is gone
   * @throws Problem too_many_leases, too_many_waiters, shutting_down, and what receive() throws
   */
  async receive<T>(request: ReceiveRequest, client: ReceiveClient, form: (received: Received) => T): Promise<T | undefined> {
    if (this.#draining) throw new Problem('shutting_down', 'The gateway is shutting down and starts no receives.')
    if (request.ack === 'manual') this.#leases.requireRoom(request.max)
    const waits = request.wait > 0 && !client.internal
    if (waits && this.#waiting >= this.#config.MAX_WAITERS) {
      throw new Problem('too_many_waiters', `As many receives wait as may (${this.#config.MAX_WAITERS}).`)
    }
    if (waits) this.#waiting++
    this.#running.add(client.interrupt)
    try {
      const vhost = await this.#vhosts.get(request.vhost, request.login)
      return await this.#take(vhost, request, client, form)
    } finally {
      this.#running.delete(client.interrupt)
      if (waits) this.#waiting--
    }
  }

  /** From now on nothing is received; those who wait are answered with what they have. */
  drain(): void {
    this.#draining = true
    for (const interrupt of this.#running) interrupt.fire('draining')
  }

  async #take<T>(
    vhost: Vhost,
    request: ReceiveRequest,
    client: ReceiveClient,
    form: (received: Received) => T,
  ): Promise<T | undefined> {
    const { queue, ack, max, wait } = request
    const receivedAt = Date.now()
    const { interrupt } = client
    const options = { queue, max, until: receivedAt + wait, maxBytes: this.#config.MAX_RESPONSE_SIZE, interrupt }
    // A look gives back what it saw in its order, and so has a channel of its own.
    const shares = max === 1 && ack !== 'requeue'
    const { deliveries, epoch, brokerVersion } = await (shares
      ? vhost.sharedReceive.one(options)
      : vhost.sharedReceive.alone(options))
    if (deliveries.length > 0) await countFirst(vhost, queue, deliveries)
    if (interrupt.reason === 'client_gone') {
      await giveBack(deliveries, brokerVersion)
      return undefined
    }
    // Others that ran at the same time may have taken the room that there was.
    const refusal = ack === 'manual' ? this.#leases.roomProblem(deliveries.length) : undefined
    if (refusal) {
      await giveBack(deliveries, brokerVersion)
      throw refusal
    }
    const leases = ack === 'manual' ? this.#leases.create(vhost, queue, epoch, deliveries, request.lease, receivedAt) : []
    const back = () => (ack === 'manual' ? this.#leases.release(leases, brokerVersion) : giveBack(deliveries, brokerVersion))
    let answer: T
    try {
      answer = form(deliveries.map((delivery, index) => ({ delivery, lease: leases[index] })))
    } catch (error) {
      await back()
      throw error
    }
    if (ack === 'requeue') await giveBack(deliveries, brokerVersion)
    else client.onEnd((written) => this.#ended(ack, deliveries, written, back))
    if (!client.internal) this.#metrics.received(ack, deliveries.length)
    return answer
  }

  #ended(ack: AckMode, deliveries: Delivery[], written: boolean, back: () => Promise<void>): void {
    if (!written) void back()
    else if (ack === 'auto') for (const delivery of deliveries) delivery.channel.settle(delivery, 'ack')
  }
}

/** A quorum queue writes its count from the second delivery on, so a first one has none to show: its type tells. */
async function countFirst(vhost: Vhost, queue: string, deliveries: Delivery[]): Promise<void> {
  const first = deliveries.filter((delivery) => delivery.deliveryCount === undefined && !delivery.redelivered)
  if (first.length === 0 || (await vhost.topology.queueTypes.recentType(queue)) !== 'quorum') return
  for (const delivery of first) delivery.deliveryCount = 1
}
