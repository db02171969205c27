// Producers and workers over HTTP, each request to a random instance, that behave as well and as badly as real clients.

import { setMaxListeners } from 'node:events'
import { type ClientRequest, request } from 'node:http'
import type { HttpResponse, Instance } from './fleet.js'
import type { Journal, SettleResult, Verdict } from './journal.js'

interface Leased {
  id: string
  lease: string
}

/** A random item of a list. */
export const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!
const chance = (share: number): boolean => Math.random() < share
const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds))
/** The bodies of settles. */
const BODIES = { ack: undefined, requeue: { requeue: true }, delay: { delay: '500ms' }, reject: { requeue: false } }
/** Problem codes for a queue that a fault has deleted. */
const ABSENT = ['queue_not_found', 'unroutable']
/** Problem codes from a gateway whose user was deleted, and after the user is added again until it has its permissions. */
const FORBIDDEN = ['access_refused', 'vhost_not_found']
/** Problem codes with which a message is not stored. */
const NOT_STORED = [
  'broker_unavailable',
  'broker_blocked',
  'broker_timeout', // a delay needs calls to look up and declare queues
  'overloaded',
  'shutting_down',
  ...ABSENT,
  ...FORBIDDEN,
]
/** Problem codes of a nack with a delay whose copy was not stored: the lease continues. */
const NO_COPY = [...NOT_STORED, 'publish_rejected', 'publish_outcome_unknown']
/** Longer than the consumer timeout of the soak test's broker and the interval at which it checks its consumers. */
const SLOW_WORKER_MS = 8000
/** The `max` of workers that take everything, and the most messages that a worker settles one by one. */
const LARGE_MAX = [100, 300, 1000]
const ONE_BY_ONE = 10
const JSON_BODY = { 'content-type': 'application/json' }

/** The number of clients of each kind. */
export interface ClientCounts {
  producers: number
  workers: number
  /** Workers that read streams. */
  streamReaders: number
  /** Workers that hold their leases for longer than RabbitMQ's consumer timeout. */
  slowWorkers: number
  /** Clients that open a stream and do not read it. */
  stalledReaders: number
}

/** The clients of a soak test. They record every response in the journal. */
export class Load {
  readonly #fleet: Instance[]
  readonly #journal: Journal
  readonly #queues: string[]
  readonly #running: Promise<void>[] = []
  readonly #stopping = new AbortController()
  #published = 0

  constructor(fleet: Instance[], queues: string[], journal: Journal) {
    this.#fleet = fleet
    this.#queues = queues
    this.#journal = journal
    setMaxListeners(0, this.#stopping.signal)
  }

  /** Starts the clients. Each works until stop(). */
  start(counts: ClientCounts): void {
    const tasks: Record<keyof ClientCounts, () => Promise<void>> = {
      producers: () => this.#produce(),
      workers: () => this.#work(),
      streamReaders: () => this.#readStream(),
      slowWorkers: () => this.#workSlowly(),
      stalledReaders: () => this.#stallStream(),
    }
    for (const [kind, task] of Object.entries(tasks) as [keyof ClientCounts, () => Promise<void>][])
      for (let n = 0; n < counts[kind]; n++) this.#running.push(this.#repeat(task))
  }

  /** Resolves when every client has finished its present task. Streams are closed at once. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#running)
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted
  }

  async #repeat(task: () => Promise<void>): Promise<void> {
    while (!this.#stopped) await task()
  }

  /**
   * Resolves with undefined without a response, because an instance died or a connection broke.
   * @param waits the milliseconds that the request asks to wait
   */
  async #request(
    method: string,
    path: string,
    body?: unknown,
    waits = 0,
    signal?: AbortSignal,
  ): Promise<HttpResponse | undefined> {
    const from = Date.now()
    try {
      const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
      const answer = await pick(this.#fleet).request(method, path, {
        ...(typeof body === 'object' && { headers: JSON_BODY }),
        ...(text !== undefined && { body: text }),
        ...(signal && { signal }),
      })
      this.#journal.countRequest(from, waits)
      return answer
    } catch {
      await sleep(20)
      return undefined
    }
  }

  #recordUnexpected(what: string, { status, text }: HttpResponse): void {
    this.#journal.unexpected.push(`${what}: ${status} ${text.slice(0, 300)}`)
  }

  async #produce(): Promise<void> {
    const id = `m${++this.#published}`
    const queue = pick(this.#queues)
    const from = Date.now()
    let answer: HttpResponse | undefined
    const delay = chance(0.05) ? `?delay=${100 + Math.round(900 * Math.random())}ms` : ''
    if (delay) this.#journal.delayed.add(id)
    try {
      const headers = { 'content-type': 'text/plain', 'amqp-message-id': id }
      answer = await pick(this.#fleet).request('POST', `/queues/${queue}/messages${delay}`, { headers, body: id })
      this.#journal.countRequest(from, 0)
    } catch {
      // the outcome is unknown
    }
    this.#journal.publishes.push({ id, queue, outcome: this.#outcome(answer), requestedAt: from, answeredAt: Date.now() })
    await sleep(answer?.status === 201 ? 5 * Math.random() : 50)
  }

  #outcome(answer: HttpResponse | undefined) {
    if (!answer) return 'unknown'
    if (answer.status === 201) return 'confirmed'
    const { code } = JSON.parse(answer.text) as { code: string }
    if (NOT_STORED.includes(code)) return 'not_stored'
    if (code !== 'publish_outcome_unknown' && code !== 'publish_rejected') this.#recordUnexpected('publish', answer)
    return 'unknown'
  }

  async #work(): Promise<void> {
    const lease = 2 + Math.floor(Math.random() * 2)
    const max = chance(0.1) ? pick(LARGE_MAX) : 1 + Math.floor(Math.random() * 5)
    await this.#finish(await this.#receive(max, lease), lease * 1000)
  }

  /** @param lease seconds */
  async #receive(max: number, lease: number): Promise<Leased[]> {
    const queue = pick(this.#queues)
    const abort = chance(0.05) ? AbortSignal.timeout(Math.ceil(Math.random() * 200)) : undefined
    const requestedAt = Date.now()
    const order = { max, wait: chance(0.2) ? 0 : 1, lease }
    const answer = await this.#request('POST', `/queues/${queue}/messages/receive`, order, 1000 * order.wait, abort)
    if (!answer) return []
    if (answer.status !== 200) {
      const { code } = JSON.parse(answer.text) as { code: string }
      if (answer.status !== 503 && answer.status !== 504 && ![...ABSENT, ...FORBIDDEN].includes(code))
        this.#recordUnexpected('receive', answer)
      await sleep(50)
      return []
    }
    const { messages } = JSON.parse(answer.text) as {
      messages: { payload: string; redelivered: boolean; lease: { id: string } }[]
    }
    if (messages.length > max) this.#journal.overFetched += messages.length - max
    this.#journal.answers.push(messages.map(({ payload, redelivered }) => ({ id: payload, redelivered })))
    const leased = messages.map(({ payload, lease }) => ({ id: payload, lease: lease.id }))
    for (const { id, lease } of leased) this.#journal.deliveries.push({ id, queue, lease, requestedAt })
    return leased
  }

  async #finish(leased: Leased[], lease: number): Promise<void> {
    if (leased.length === 0) return
    const dice = Math.random()
    if (dice < 0.06) return // the worker dies with its leases
    if (dice < 0.1) await sleep(lease + 300) // the worker settles too late
    if (dice < 0.2 || leased.length > ONE_BY_ONE) return this.#settleAll(leased)
    for (const one of leased) {
      await sleep(Math.random() * 10)
      if (dice < 0.25) await this.#request('POST', `/leases/${one.lease}/extend`, {})
      const verdict = this.#verdict()
      if (dice < 0.35) await Promise.all([this.#settle(one, verdict), this.#settle(one, chance(0.5) ? verdict : this.#verdict())])
      else await this.#settle(one, verdict)
    }
  }

  #verdict(): Verdict {
    const dice = Math.random()
    return dice < 0.85 ? 'ack' : dice < 0.92 ? 'requeue' : dice < 0.95 ? 'delay' : 'reject'
  }

  /** Holds leases that outlast RabbitMQ's consumer timeout. */
  async #workSlowly(): Promise<void> {
    const leased = await this.#receive(3, 30)
    const end = Date.now() + SLOW_WORKER_MS
    while (leased.length > 0 && Date.now() < end && !this.#stopped) await sleep(100)
    for (const one of leased) if ((await this.#settle(one, 'ack')) === 'gone') this.#journal.takenBack++
  }

  /** Opens a stream, never reads it, and closes it after a few seconds. */
  async #stallStream(): Promise<void> {
    const url = `${pick(this.#fleet).url}/queues/${pick(this.#queues)}/stream?prefetch=50&lease=2s`
    await new Promise<void>((resolve) => {
      const outgoing = request(url, { agent: false }, (response) => {
        response.pause()
        response.on('error', () => undefined)
      })
      outgoing.on('error', () => undefined)
      outgoing.on('close', resolve)
      outgoing.end()
      this.#destroyLater(outgoing)
    })
    if (!this.#stopped) await sleep(1000)
  }

  /** After 1 to 4 s, or when the load stops. */
  #destroyLater(outgoing: ClientRequest): void {
    const timer = setTimeout(() => outgoing.destroy(), 1000 + Math.random() * 3000)
    const onStop = () => outgoing.destroy()
    this.#stopping.signal.addEventListener('abort', onStop, { once: true })
    outgoing.once('close', () => {
      clearTimeout(timer)
      this.#stopping.signal.removeEventListener('abort', onStop)
    })
    if (this.#stopped) outgoing.destroy()
  }

  async #settle({ id, lease }: Leased, verdict: Verdict): Promise<SettleResult> {
    const path = `/leases/${lease}/${verdict === 'ack' ? 'ack' : 'nack'}`
    if (verdict === 'delay') this.#journal.delayed.add(id)
    const answer = await this.#request('POST', path, BODIES[verdict])
    const result = this.#result(answer, verdict)
    this.#recordSettle({ id, lease }, verdict, result)
    return result
  }

  #result(answer: HttpResponse | undefined, verdict: Verdict): SettleResult {
    if (!answer) return 'unknown'
    if (answer.status === 204) return 'done'
    if (answer.status === 410) return 'gone'
    if (answer.status === 409) return 'conflict'
    const { code } = JSON.parse(answer.text) as { code: string }
    const expected = ['settle_outcome_unknown', 'lease_unreachable', ...(verdict === 'delay' ? NO_COPY : [])]
    if (!expected.includes(code)) this.#recordUnexpected('settle', answer)
    return 'unknown'
  }

  async #settleAll(leased: Leased[]): Promise<void> {
    const nack = leased.slice(0, 1)
    const ack = leased.slice(1)
    const answer = await this.#request('POST', '/leases/settle', {
      ack: ack.map(({ lease }) => lease),
      nack: nack.map(({ lease: id }) => ({ id })),
    })
    if (answer && answer.status !== 200) this.#recordUnexpected('settle many', answer)
    const results = answer?.status === 200 ? (JSON.parse(answer.text) as { results: { status: string }[] }).results : []
    for (const [n, one] of [...ack, ...nack].entries()) {
      const status = results[n]?.status ?? 'unknown'
      const done = status === 'acked' || status === 'nacked'
      this.#recordSettle(one, n < ack.length ? 'ack' : 'requeue', done ? 'done' : (status as SettleResult))
    }
  }

  #recordSettle({ id, lease }: Leased, verdict: Verdict, result: SettleResult): void {
    this.#journal.settles.push({ id, lease, verdict, result, answeredAt: Date.now() })
  }

  /** Reads a stream for a few seconds, settles most of its messages, and closes the connection. */
  async #readStream(): Promise<void> {
    const queue = pick(this.#queues)
    const requestedAt = Date.now()
    const settles: Promise<void>[] = []
    await new Promise<void>((resolve) => {
      const url = `${pick(this.#fleet).url}/queues/${queue}/stream?prefetch=5&lease=3s`
      const outgoing = request(url, { agent: false, headers: { accept: 'application/x-ndjson' } }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk) => {
          const lines = (text + chunk).split('\n')
          text = lines.pop()!
          for (const line of lines) if (line.includes('"lease"')) settles.push(this.#settleLine(line, queue, requestedAt))
        })
        response.on('error', () => undefined)
        response.on('close', resolve)
      })
      outgoing.on('error', () => resolve())
      outgoing.end()
      this.#destroyLater(outgoing)
    })
    await Promise.all(settles)
    await sleep(50)
  }

  async #settleLine(line: string, queue: string, requestedAt: number): Promise<void> {
    const { payload, lease } = JSON.parse(line) as { payload: string; lease: { id: string } }
    this.#journal.deliveries.push({ id: payload, queue, lease: lease.id, requestedAt })
    if (chance(0.95)) await this.#settle({ id: payload, lease: lease.id }, this.#verdict())
  }
}
