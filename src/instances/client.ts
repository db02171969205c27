// Other instances over HTTP, at the addresses that they advertise. Carries commands there and answers back, and knows nothing
// of what is in them; what it tells is whether they may have arrived.

import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { instanceCertificates } from '../config/certificates.js'
import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { SIGNATURE, Signatures } from './signature.js'

export const INSTANCE_PATH = '/internal/leases'
/** One that takes longer to connect is away, or behind a wall: RabbitMQ is asked meanwhile. */
const INSTANCE_CONNECT_TIMEOUT_MS = 1000
/** How long one is not tried again that could not be connected to. */
const AVOID_MS = 5000
const MAX_AVOIDED = 1000
const MAX_SOCKETS = 64
/** How long a connection is kept that nobody uses: less where the other side says that it keeps it for less. */
const KEEP_ALIVE_MS = 30_000
const MAX_ANSWER_BYTES = 4 * 1024 * 1024
/** Longer than any request takes. */
const OLD_AGENT_LIFE_MS = 60_000

/** `mayHaveArrived`: no answer is known, and the command may have been carried out all the same. */
export type InstanceAnswer = { answer: Buffer } | { answer: undefined; mayHaveArrived: boolean }

interface InstanceResponse {
  status: number
  signature: unknown
  body: Buffer
}

export class Instances {
  readonly signatures: Signatures
  readonly #config: Config
  readonly #log: Log
  readonly #metrics: Metrics
  #agents: { http: HttpAgent; https: HttpsAgent }
  /** By address: until when it is left alone. */
  readonly #avoided = new Map<string, number>()

  /** @throws ConfigError where the files of certificates have mistakes */
  constructor(config: Config, log: Log, metrics: Metrics) {
    this.#config = config
    this.#log = log
    this.#metrics = metrics
    this.signatures = new Signatures(config.ADVERTISE_SECRET)
    this.#agents = agents(config)
  }

  /** Sends commands for an epoch to the instance at `url`. Never throws: what can't be had is `undefined`. */
  async ask(url: string, epoch: string, body: Buffer, timeout: number): Promise<InstanceAnswer> {
    if ((this.#avoided.get(url) ?? 0) > Date.now()) return { answer: undefined, mayHaveArrived: false }
    const header = this.signatures.sign(epoch, body)
    try {
      const response = await this.#post(url, header, body, timeout)
      // Whoever answers there: what is not signed is nobody's word.
      if (!this.signatures.isAnswer(header, response.body, response.signature)) {
        throw new RequestLost(true, new Error(`the answer is not signed by an instance; its status is ${response.status}`))
      }
      if (response.body.length > 0) {
        this.#metrics.askedDirectly('answered')
        return { answer: response.body }
      }
      // The address has another instance by now. Of the one before only RabbitMQ knows.
      this.#metrics.askedDirectly('not_there')
      return { answer: undefined, mayHaveArrived: false }
    } catch (error) {
      const mayHaveArrived = !(error instanceof RequestLost) || error.mayHaveArrived
      if (!mayHaveArrived) this.#avoid(url)
      this.#metrics.askedDirectly(mayHaveArrived ? 'unanswered' : 'unreachable')
      this.#log.warn({ err: error, url, epoch }, 'an instance does not answer at the address that it advertises')
      return { answer: undefined, mayHaveArrived }
    }
  }

  /** Reads certificates again. */
  renew(): void {
    const { http, https } = this.#agents
    this.#agents = agents(this.#config)
    setTimeout(() => {
      http.destroy()
      https.destroy()
    }, OLD_AGENT_LIFE_MS).unref()
  }

  close(): void {
    this.#agents.http.destroy()
    this.#agents.https.destroy()
  }

  #avoid(url: string): void {
    if (this.#avoided.size >= MAX_AVOIDED) this.#avoided.clear()
    this.#avoided.set(url, Date.now() + AVOID_MS)
  }

  /** @throws Lost */
  #post(url: string, header: string, body: Buffer, timeout: number): Promise<InstanceResponse> {
    const target = new URL(INSTANCE_PATH, url)
    const secure = target.protocol === 'https:'
    const options = {
      method: 'POST',
      headers: { [SIGNATURE]: header, 'content-type': 'application/json', 'content-length': body.length },
    }
    return new Promise((resolve, reject) => {
      let sent = false
      let connecting: NodeJS.Timeout | undefined
      const outgoing: ClientRequest = secure
        ? requestHttps(target, { ...options, agent: this.#agents.https })
        : requestHttp(target, { ...options, agent: this.#agents.http })
      const late = setTimeout(() => outgoing.destroy(new Error(`no answer within ${timeout} ms`)), timeout)
      const done = () => {
        clearTimeout(late)
        clearTimeout(connecting)
      }
      const lost = (error: Error) => {
        done()
        reject(new RequestLost(sent, error))
      }
      outgoing.on('socket', (socket) => {
        sent = !socket.connecting
        if (sent) return
        connecting = setTimeout(() => outgoing.destroy(new Error('no connection came about')), INSTANCE_CONNECT_TIMEOUT_MS)
        // Until then nothing of the request has left this machine.
        socket.once(secure ? 'secureConnect' : 'connect', () => {
          sent = true
          clearTimeout(connecting)
        })
      })
      outgoing.on('error', lost)
      outgoing.on('response', (response) => {
        readAnswer(response).then((whole) => {
          done()
          resolve({ status: response.statusCode!, signature: response.headers[SIGNATURE], body: whole })
        }, lost)
      })
      outgoing.end(body)
    })
  }
}

/** Why there is no answer, in `cause`. */
class RequestLost extends Error {
  readonly mayHaveArrived: boolean
  constructor(mayHaveArrived: boolean, cause: unknown) {
    super('no answer', { cause })
    this.mayHaveArrived = mayHaveArrived
  }
}

async function readAnswer(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_ANSWER_BYTES) throw new Error('the answer is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function agents(config: Config): { http: HttpAgent; https: HttpsAgent } {
  const kept = { keepAlive: true, maxSockets: MAX_SOCKETS, timeout: KEEP_ALIVE_MS }
  return { http: new HttpAgent(kept), https: new HttpsAgent({ ...kept, ...instanceCertificates(config) }) }
}
