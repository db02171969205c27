// Producers and workers over HTTP, through whichever instance chance picks, that behave as well and as badly as real ones.

import { request } from 'node:http'
import type { Answer, Instance } from './fleet.js'
import type { Journal, SettleResult, Verdict } from './journal.js'

interface Leased {
  id: string
  lease: string
}

export const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!
const chance = (share: number): boolean => Math.random() < share
const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds))
/** What a settle asks for. */
const BODIES = { ack: undefined, requeue: { requeue: true }, later: { delay: '500ms' }, reject: { requeue: false } }
/** What one may be told of a queue that was deleted just now. */
const ABSENT = ['queue_not_found', 'unroutable']
/** And by a gateway whose user was deleted, and may nothing yet though he is there again. */
const FORBIDDEN = ['access_refused', 'vhost_not_found']
/** Whatever else there was: the message is not stored. */
const NOT_STORED = [
  'broker_unavailable',
  'broker_blocked',
  'broker_timeout', // Declaring or looking up what a delay needs takes calls of its own.
  'overloaded',
  'shutting_down',
  ...ABSENT,
  ...FORBIDDEN,
]
/** Why no copy could be made of a message that is to come later: its lease goes on. */
const NO_COPY = [...NOT_STORED, 'publish_rejected', 'publish_outcome_unknown']
/** Longer than RabbitMQ waits in a storm, and its look at its consumers comes late. */
const TOO_LONG = 8000
const JSON_BODY = { 'content-type': 'application/json' }

/** How many of each. */
export interface Crowd {
  producers: number
  workers: number
  /** Those who work on streams. */
  readers: number
  /** Workers that hold on to what they have for longer than RabbitMQ waits. */
  sluggards: number
  /** Clients that don't read what they asked for. */
  deaf: number
}

export class Load {
  readonly #fleet: Instance[]
  readonly #journal: Journal
  readonly #queues: string[]
  readonly #running: Promise<void>[] = []
  #published = 0
  #stopped = false

  constructor(fleet: Instance[], queues: string[], journal: Journal) {
    this.#fleet = fleet
    this.#queues = queues
    this.#journal = journal
  }

  /** Starts them. Each works until stop(). */
  start(crowd: Crowd): void {
    const tasks: Record<keyof Crowd, () => Promise<void>> = {
      producers: () => this.#produce(),
      workers: () => this.#work(),
      readers: () => this.#read(),
      sluggards: () => this.#sleep(),
      deaf: () => this.#ignore(),
    }
    for (const [who, task] of Object.entries(tasks) as [keyof Crowd, () => Promise<void>][])
      for (let n = 0; n < crowd[who]; n++) this.#running.push(this.#repeat(task))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
  }

  async #repeat(task: () => Promise<void>): Promise<void> {
    while (!this.#stopped) await task()
  }

  /** undefined: no answer came, because an instance died or a connection broke. @param waits milliseconds it may wait on purpose */
  async #ask(method: string, path: string, body?: unknown, waits = 0, signal?: AbortSignal): Promise<Answer | undefined> {
    const from = Date.now()
    try {
      const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
      const answer = await pick(this.#fleet).ask(method, path, {
        ...(typeof body === 'object' && { headers: JSON_BODY }),
        ...(text !== undefined && { body: text }),
        ...(signal && { signal }),
      })
      this.#journal.answered(from, waits)
      return answer
    } catch {
      await pause(20)
      return undefined
    }
  }

  #surprise(what: string, { status, text }: Answer): void {
    this.#journal.surprises.push(`${what}: ${status} ${text.slice(0, 300)}`)
  }

  async #produce(): Promise<void> {
    const id = `m${++this.#published}`
    const queue = pick(this.#queues)
    const from = Date.now()
    let answer: Answer | undefined
    const delay = chance(0.05) ? `?delay=${100 + Math.round(900 * Math.random())}ms` : ''
    if (delay) this.#journal.delayed.add(id)
    try {
      const headers = { 'content-type': 'text/plain', 'amqp-message-id': id }
      answer = await pick(this.#fleet).ask('POST', `/queues/${queue}/messages${delay}`, { headers, body: id })
      this.#journal.answered(from, 0)
    } catch {
      // nobody knows
    }
    this.#journal.publishes.push({ id, queue, outcome: this.#outcome(answer), asked: from })
    await pause(answer?.status === 201 ? 5 * Math.random() : 50)
  }

  #outcome(answer: Answer | undefined) {
    if (!answer) return 'unknown'
    if (answer.status === 201) return 'confirmed'
    const { code } = JSON.parse(answer.text) as { code: string }
    if (NOT_STORED.includes(code)) return 'not_stored'
    if (code !== 'publish_outcome_unknown' && code !== 'publish_rejected') this.#surprise('publish', answer)
    return 'unknown'
  }

  async #work(): Promise<void> {
    const lease = 2 + Math.floor(Math.random() * 2)
    await this.#finish(await this.#receive(1 + Math.floor(Math.random() * 5), lease), lease * 1000)
  }

  /** @param lease seconds */
  async #receive(max: number, lease: number): Promise<Leased[]> {
    const queue = pick(this.#queues)
    const leaves = chance(0.05) ? AbortSignal.timeout(Math.ceil(Math.random() * 200)) : undefined
    const asked = Date.now()
    const path = `/queues/${queue}/messages?max=${max}&wait=1s&lease=${lease}s`
    const answer = await this.#ask('GET', path, undefined, 1000, leaves)
    if (!answer) return []
    if (answer.status !== 200) {
      const { code } = JSON.parse(answer.text) as { code: string }
      if (answer.status !== 503 && answer.status !== 504 && ![...ABSENT, ...FORBIDDEN].includes(code))
        this.#surprise('receive', answer)
      await pause(50)
      return []
    }
    const { messages } = JSON.parse(answer.text) as { messages: { payload: string; lease: { id: string } }[] }
    if (messages.length > max) this.#journal.overFetched += messages.length - max
    const leased = messages.map(({ payload, lease }) => ({ id: payload, lease: lease.id }))
    for (const { id, lease } of leased) this.#journal.deliveries.push({ id, queue, lease, asked })
    return leased
  }

  async #finish(leased: Leased[], lease: number): Promise<void> {
    if (leased.length === 0) return
    const mood = Math.random()
    if (mood < 0.06) return // dies with it
    if (mood < 0.1) await pause(lease + 300) // too late
    if (mood < 0.2) return this.#settleAll(leased)
    for (const one of leased) {
      await pause(Math.random() * 10)
      if (mood < 0.25) await this.#ask('POST', `/leases/${one.lease}/extend`, {})
      const verdict = this.#verdict()
      if (mood < 0.35) await Promise.all([this.#settle(one, verdict), this.#settle(one, chance(0.5) ? verdict : this.#verdict())])
      else await this.#settle(one, verdict)
    }
  }

  #verdict(): Verdict {
    const mood = Math.random()
    return mood < 0.85 ? 'ack' : mood < 0.92 ? 'requeue' : mood < 0.95 ? 'later' : 'reject'
  }

  /** The leases last long enough; RabbitMQ's patience does not. */
  async #sleep(): Promise<void> {
    const leased = await this.#receive(3, 30)
    const end = Date.now() + TOO_LONG
    while (leased.length > 0 && Date.now() < end && !this.#stopped) await pause(100)
    for (const one of leased) if ((await this.#settle(one, 'ack')) === 'gone') this.#journal.takenBack++
  }

  /** Asks for a stream, never reads it, and leaves after a while. */
  async #ignore(): Promise<void> {
    const url = `${pick(this.#fleet).url}/queues/${pick(this.#queues)}/stream?prefetch=50&lease=2s`
    await new Promise<void>((resolve) => {
      const outgoing = request(url, { agent: false }, (response) => {
        response.pause()
        response.on('error', () => undefined)
      })
      outgoing.on('error', () => undefined)
      outgoing.on('close', resolve)
      outgoing.end()
      setTimeout(() => outgoing.destroy(), 1000 + Math.random() * 3000)
    })
    await pause(1000)
  }

  async #settle({ id, lease }: Leased, verdict: Verdict): Promise<SettleResult> {
    const path = `/leases/${lease}/${verdict === 'ack' ? 'ack' : 'nack'}`
    if (verdict === 'later') this.#journal.delayed.add(id)
    const answer = await this.#ask('POST', path, BODIES[verdict])
    const result = this.#result(answer, verdict)
    this.#note({ id, lease }, verdict, result)
    return result
  }

  #result(answer: Answer | undefined, verdict: Verdict): SettleResult {
    if (!answer) return 'unknown'
    if (answer.status === 204) return 'done'
    if (answer.status === 410) return 'gone'
    if (answer.status === 409) return 'conflict'
    const { code } = JSON.parse(answer.text) as { code: string }
    const expected = ['settle_outcome_unknown', 'lease_unreachable', ...(verdict === 'later' ? NO_COPY : [])]
    if (!expected.includes(code)) this.#surprise('settle', answer)
    return 'unknown'
  }

  async #settleAll(leased: Leased[]): Promise<void> {
    const nack = leased.slice(0, 1)
    const ack = leased.slice(1)
    const answer = await this.#ask('POST', '/leases/settle', {
      ack: ack.map(({ lease }) => lease),
      nack: nack.map(({ lease: id }) => ({ id })),
    })
    if (answer && answer.status !== 200) this.#surprise('settle many', answer)
    const results = answer?.status === 200 ? (JSON.parse(answer.text) as { results: { status: string }[] }).results : []
    for (const [n, one] of [...ack, ...nack].entries()) {
      const status = results[n]?.status ?? 'unknown'
      const done = status === 'acked' || status === 'nacked'
      this.#note(one, n < ack.length ? 'ack' : 'requeue', done ? 'done' : (status as SettleResult))
    }
  }

  #note({ id, lease }: Leased, verdict: Verdict, result: SettleResult): void {
    this.#journal.settles.push({ id, lease, verdict, result, answered: Date.now() })
  }

  /** Reads a stream for a while, settles what comes, and leaves without a word. */
  async #read(): Promise<void> {
    const queue = pick(this.#queues)
    const asked = Date.now()
    await new Promise<void>((resolve) => {
      const url = `${pick(this.#fleet).url}/queues/${queue}/stream?prefetch=5&lease=3s`
      const outgoing = request(url, { agent: false, headers: { accept: 'application/x-ndjson' } }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk) => {
          const lines = (text + chunk).split('\n')
          text = lines.pop()!
          for (const line of lines) if (line.includes('"lease"')) void this.#readOne(line, queue, asked)
        })
        response.on('error', () => undefined)
        response.on('close', resolve)
      })
      outgoing.on('error', () => resolve())
      outgoing.end()
      setTimeout(() => outgoing.destroy(), 1000 + Math.random() * 3000)
    })
    await pause(50)
  }

  async #readOne(line: string, queue: string, asked: number): Promise<void> {
    const { payload, lease } = JSON.parse(line) as { payload: string; lease: { id: string } }
    this.#journal.deliveries.push({ id: payload, queue, lease: lease.id, asked })
    if (chance(0.95)) await this.#settle({ id: payload, lease: lease.id }, this.#verdict())
  }
}
