// Requests to other instances over HTTP, at the URLs that they told each other. Commands and responses are opaque here; the
// caller learns whether a command may have arrived.

import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { instanceCertificates } from '../config/certificates.js'
import type { Config } from '../config/index.js'
import type { Definitions } from '../definitions/definitions.js'
import { ExpiringMap } from '../lib/expiring-map.js'
import type { Log } from '../lib/log.js'
import type { Metrics } from '../metrics.js'
import { InstanceAddresses } from './addresses.js'
import { SIGNATURE, Signatures } from './signature.js'

export const INSTANCE_PATH = '/internal/leases'
/** An instance that takes longer to connect to is down or behind a firewall: the command then goes through RabbitMQ. */
const INSTANCE_CONNECT_TIMEOUT_MS = 1000
/** How long an unreachable instance is not tried again. */
const AVOID_MS = 5000
const MAX_AVOIDED = 1000
const MAX_SOCKETS = 64
/** How long an idle connection is kept open, or shorter if the other side announces a shorter time. */
const KEEP_ALIVE_MS = 30_000
const MAX_ANSWER_BYTES = 4 * 1024 * 1024
/** How long replaced agents are kept for requests in flight: longer than any request takes. */
const OLD_AGENT_LIFE_MS = 60_000

/** `mayHaveArrived`: there is no answer, but the command may have been carried out. */
export type InstanceAnswer = { answer: Buffer } | { answer: undefined; mayHaveArrived: boolean }

interface InstanceResponse {
  status: number
  signature: unknown
  body: Buffer
}

export interface InstancesOptions {
  config: Config
  log: Log
  metrics: Metrics
  definitions: Definitions
  /** The name of this instance. */
  instance: string
  /** Its address. */
  url: string
}

/** The client for other instances. It keeps connections open and avoids unreachable instances for a few seconds. */
export class Instances {
  readonly signatures: Signatures
  readonly #addresses: InstanceAddresses
  readonly #config: Config
  readonly #log: Log
  readonly #metrics: Metrics
  #agents: { http: HttpAgent; https: HttpsAgent }
  /** URLs of unreachable instances. */
  readonly #avoided = new ExpiringMap<true>(MAX_AVOIDED, AVOID_MS)

  /** @throws ConfigError if the certificate files have mistakes */
  constructor({ config, log, metrics, definitions, instance, url }: InstancesOptions) {
    this.#config = config
    this.#log = log
    this.#metrics = metrics
    this.signatures = new Signatures(config.ADVERTISE_SECRET)
    this.#agents = agents(config)
    this.#addresses = new InstanceAddresses({ definitions, log, signatures: this.signatures, instance, url })
  }

  /**
   * Sends commands to an instance and waits for its response. Never throws.
   * @param epoch the epoch of the instance that the commands are for
   * @param timeout milliseconds
   * @returns the response body; or no answer if the instance has told no URL, is unreachable, is another one, does not sign or
   *   does not respond
   */
  async ask(instance: string, epoch: string, body: Buffer, timeout: number): Promise<InstanceAnswer> {
    const url = this.#addresses.of(instance)
    if (url === undefined || this.#avoided.get(url)) return { answer: undefined, mayHaveArrived: false }
    const header = this.signatures.sign(epoch, body)
    try {
      const response = await this.#post(url, header, body, timeout)
      // Anyone may listen at that address now: an unsigned response proves nothing.
      if (!this.signatures.isAnswer(header, response.body, response.signature)) {
        throw new RequestLost(true, new Error(`the response (status ${response.status}) is not signed by an instance`))
      }
      if (response.body.length > 0) {
        this.#metrics.askedDirectly('answered')
        return { answer: response.body }
      }
      // Another instance has taken over the address. Only RabbitMQ can reach the earlier one, if it still runs.
      this.#metrics.askedDirectly('not_there')
      return { answer: undefined, mayHaveArrived: false }
    } catch (error) {
      const mayHaveArrived = !(error instanceof RequestLost) || error.mayHaveArrived
      if (!mayHaveArrived) this.#avoided.set(url, true)
      this.#metrics.askedDirectly(mayHaveArrived ? 'unanswered' : 'unreachable')
      this.#log.warn({ err: error, url, epoch }, 'instance does not respond at its advertised URL')
      return { answer: undefined, mayHaveArrived }
    }
  }

  /** Reads the certificates again, for new connections. Requests in flight finish on the old ones. */
  renew(): void {
    const { http, https } = this.#agents
    this.#agents = agents(this.#config)
    setTimeout(() => {
      http.destroy()
      https.destroy()
    }, OLD_AGENT_LIFE_MS).unref()
  }

  /** Closes all connections. Requests in flight fail. */
  close(): void {
    this.#addresses.close()
    this.#agents.http.destroy()
    this.#agents.https.destroy()
  }

  /** @throws RequestLost if there is no response */
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
      const late = setTimeout(() => outgoing.destroy(new Error(`no response within ${timeout} ms`)), timeout)
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
        connecting = setTimeout(
          () => outgoing.destroy(new Error(`not connected within ${INSTANCE_CONNECT_TIMEOUT_MS} ms`)),
          INSTANCE_CONNECT_TIMEOUT_MS,
        )
        // Until then, nothing of the request has left this machine.
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

/** A request without a response; `cause` says why. */
class RequestLost extends Error {
  readonly mayHaveArrived: boolean
  constructor(mayHaveArrived: boolean, cause: unknown) {
    super('no response from the instance', { cause })
    this.mayHaveArrived = mayHaveArrived
  }
}

async function readAnswer(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`the response is larger than ${MAX_ANSWER_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function agents(config: Config): { http: HttpAgent; https: HttpsAgent } {
  const kept = { keepAlive: true, maxSockets: MAX_SOCKETS, timeout: KEEP_ALIVE_MS }
  return { http: new HttpAgent(kept), https: new HttpsAgent({ ...kept, ...instanceCertificates(config) }) }
}
