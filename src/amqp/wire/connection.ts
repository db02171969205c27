// One self-healing connection to the broker: it connects with a deadline, reconnects with jitter, and knows whether RabbitMQ
// blocks publishing. Its owner sets up channels and consumers again at every incarnation.

import type { Socket } from 'node:net'
import { hostname } from 'node:os'
import { brokerCertificates } from '../../config/certificates.js'
import type { BrokerAddress, Config } from '../../config/index.js'
import { type Backoff, waitAfter } from '../../lib/backoff.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import { type ChannelModel, connect, maxPropertiesSize } from './amqplib.js'
import { waitQuietly, within } from './deadline.js'
import { isVhostRefused } from './errors.js'

export type Role = 'lease' | 'publish' | 'admin'
export type ConnectionState = 'connecting' | 'up' | 'blocked' | 'down' | 'closed'

export interface ConnectionSettings {
  config: Config
  log: Log
  role: Role
  vhost: string
  /** The RabbitMQ user to connect as; the gateway's own user if absent. */
  login?: Login | undefined
  /** Runs once per incarnation before the connection counts as up. A rejection ends the incarnation. */
  onUp?: (model: ChannelModel) => Promise<void>
  /** Runs once when an incarnation ends that was up or coming up. */
  onDown?: () => void
}

/** A user of RabbitMQ. The gateway acts with the user's own credentials, so that RabbitMQ decides what they may do. */
export interface Login {
  /** Tells logins apart: a digest of the user's name and password together. */
  readonly key: string
  readonly username: string
  readonly password: string
  /** Names the user whatever the password: leases belong to it. */
  readonly subject: string
}

/** Milliseconds. With a jitter of 1 a wait is anything from 0 to twice the plain one, so that reconnects spread out. */
const RECONNECT: Backoff = { initial: 50, factor: 2, max: 5000, jitter: 1 }

/** A connection that reconnects by itself until it is closed. */
export class BrokerConnection {
  state: ConnectionState = 'connecting'
  /** Why it is not up, for readiness and the log. */
  reason = 'connecting'
  /** The broker's version, such as `4.0.5`; empty before the first connection. */
  brokerVersion = ''

  readonly #settings: ConnectionSettings
  #model: ChannelModel | undefined
  #attempts = 0
  #retry: NodeJS.Timeout | undefined
  #firstAttempt: Promise<void>

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
    this.#firstAttempt = this.#connect()
  }

  /**
   * The live connection.
   * @throws Problem broker_unavailable at once if it is down; only the very first attempt to connect is waited for.
   */
  async ready(): Promise<ChannelModel> {
    if (this.state === 'connecting') await this.#firstAttempt
    return this.model()
  }

  /** The live connection, without waiting. @throws Problem broker_unavailable, vhost_not_found, unauthorized */
  model(): ChannelModel {
    if (this.#model && (this.state === 'up' || this.state === 'blocked')) return this.#model
    if (this.reason === CREDENTIALS_REFUSED && this.#settings.login) throw refusedLogin()
    if (this.reason === VHOST_REFUSED) {
      throw new Problem('vhost_not_found', `There is no vhost '${this.#settings.vhost}', or the gateway may not use it.`)
    }
    throw new Problem('broker_unavailable', `RabbitMQ cannot be reached (${this.reason}).`)
  }

  /** The most bytes that the properties of a message may have. @throws Problem as `model()` */
  get maxPropertiesSize(): number {
    return maxPropertiesSize(this.model())
  }

  /** Whether RabbitMQ refused the vhost or the user, rather than being unreachable. */
  get isRefused(): boolean {
    return this.reason === VHOST_REFUSED || (this.reason === CREDENTIALS_REFUSED && this.#settings.login !== undefined)
  }

  /** Ends this incarnation and connects again: its channels can no longer be trusted. */
  destroy(reason: string): void {
    const model = this.#model
    if (!model || this.state === 'closed') return
    this.#settings.log.warn({ role: this.#settings.role, vhost: this.#settings.vhost, reason }, 'broker connection given up')
    socketOf(model)?.destroy(new Error(reason))
  }

  /** Closes the connection permanently. Waits for RabbitMQ's close-ok, at most 2 s. */
  async close(): Promise<void> {
    const model = this.#model
    this.state = 'closed'
    this.reason = 'closed'
    clearTimeout(this.#retry)
    if (!model) return
    try {
      await waitQuietly(2000, model.close())
    } catch {
      // already closing
    }
    socketOf(model)?.destroy()
  }

  async #connect(): Promise<void> {
    const { config, log, role, vhost, login } = this.#settings
    const address = { ...pick(config.AMQP_URL, this.#attempts), ...login }
    let model: ChannelModel | undefined
    try {
      model = await openConnection(config, address, vhost, `rabbitmq-http-gateway ${hostname()}:${process.pid} ${role}`)
      gatherWrites(socketOf(model))
      this.#watch(model)
      this.#model = model
      this.brokerVersion = serverVersion(model)
      await within(config.BROKER_TIMEOUT, 'the set-up of a connection', this.#settings.onUp?.(model) ?? Promise.resolve())
      // It may have died during the set-up, and #lost has run; or it was closed, and its socket is destroyed here.
      if (this.state === 'closed') socketOf(model)?.destroy()
      if (this.#model !== model || (this.state as ConnectionState) === 'closed') return
      this.state = 'up'
      this.reason = ''
      this.#attempts = 0
      log.info(
        { role, vhost, host: address.hostname, port: address.port, version: this.brokerVersion },
        'connected to the broker',
      )
    } catch (error) {
      if (model && this.#model === model) {
        socketOf(model)?.destroy(error as Error)
        this.#lost(model, error as Error)
      } else if (!model) {
        this.#failed(error as Error)
      }
    }
  }

  #watch(model: ChannelModel): void {
    // Every call on a scratch channel adds a listener while it runs, and there may be many.
    model.setMaxListeners(0)
    model.on('error', (error: Error) => this.#lost(model, error))
    model.on('close', (error?: Error) => this.#lost(model, error ?? new Error('closed by the broker')))
    model.on('handler-error' as 'error', (error: Error) => this.#settings.log.error({ err: error }, 'broker callback failed'))
    model.on('blocked', (reason: string) => {
      if (this.#model !== model || this.state !== 'up') return
      this.state = 'blocked'
      this.reason = `blocked: ${reason}`
      this.#settings.log.warn({ role: this.#settings.role, reason }, 'broker blocks publishing')
    })
    model.on('unblocked', () => {
      if (this.#model !== model || this.state !== 'blocked') return
      this.state = 'up'
      this.reason = ''
      this.#settings.log.info({ role: this.#settings.role }, 'broker accepts messages again')
    })
  }

  #lost(model: ChannelModel, error: Error): void {
    if (this.#model !== model) return
    this.#model = undefined
    this.#settings.onDown?.()
    this.#failed(error)
  }

  #failed(error: Error): void {
    if (this.state === 'closed') return
    this.state = 'down'
    this.reason = isVhostRefused(error) ? VHOST_REFUSED : connectionFailure(error)
    const delay = waitAfter(++this.#attempts, RECONNECT)
    const { log, role, vhost } = this.#settings
    log.warn({ role, vhost, reason: this.reason, retry_ms: delay }, 'broker connection failed')
    this.#retry = setTimeout(() => void this.#connect(), delay)
  }
}

/**
 * Asks RabbitMQ whether it knows the user. It does not tell which vhosts they may use.
 * @throws Problem broker_unavailable: RabbitMQ cannot be asked
 */
export async function isKnownUser(config: Config, login: Login): Promise<boolean> {
  const address = { ...pick(config.AMQP_URL, 0), ...login }
  try {
    const model = await openConnection(config, address, address.vhost, `rabbitmq-http-gateway ${hostname()}:${process.pid} login`)
    model.on('error', () => undefined)
    void waitQuietly(2000, model.close()).then(() => socketOf(model)?.destroy())
    return true
  } catch (error) {
    if (isVhostRefused(error as Error)) return true
    if (connectionFailure(error as Error) === CREDENTIALS_REFUSED) return false
    throw new Problem('broker_unavailable', `RabbitMQ cannot be asked about the user (${connectionFailure(error as Error)}).`)
  }
}

/** The problem of credentials that RabbitMQ does not accept. */
export function refusedLogin(): Problem {
  const challenge = 'Basic realm="rabbitmq-http-gateway", charset="UTF-8"'
  return new Problem('unauthorized', 'RabbitMQ does not accept these credentials.', { challenge })
}

const VHOST_REFUSED = 'vhost refused'
const CREDENTIALS_REFUSED = 'the broker refused the credentials'

async function openConnection(config: Config, address: BrokerAddress, vhost: string, name: string): Promise<ChannelModel> {
  return connect(
    {
      protocol: address.protocol,
      hostname: address.hostname,
      port: address.port,
      username: address.username,
      password: address.password,
      vhost: encodeURIComponent(vhost),
      heartbeat: Math.round(config.AMQP_HEARTBEAT / 1000),
    },
    {
      // Read for each connection, since certificates are renewed while the gateway runs.
      ...(address.protocol === 'amqps' && brokerCertificates(config)),
      timeout: config.CONNECT_TIMEOUT,
      noDelay: true,
      keepAlive: true,
      clientProperties: { connection_name: name },
    },
  )
}

// Several nodes: a random one first, then in turn, so that a dead node costs one attempt.
let start = Math.floor(Math.random() * 1000)
function pick(addresses: readonly BrokerAddress[], attempt: number): BrokerAddress {
  if (attempt === 0) start = Math.floor(Math.random() * 1000)
  return addresses[(start + attempt) % addresses.length]!
}

/** amqplib closes a connection only by a handshake. A frozen connection needs its socket destroyed. */
function socketOf(model: ChannelModel): Socket | undefined {
  return (model.connection as unknown as { stream?: Socket }).stream
}

/** Sends what all channels write in one turn of the event loop in one system call, rather than one for each channel. */
function gatherWrites(socket: Socket | undefined): void {
  if (!socket) return
  const write = socket.write
  let gathering = false
  socket.write = ((...args: Parameters<typeof write>) => {
    if (!gathering) {
      gathering = true
      socket.cork()
      process.nextTick(() => {
        gathering = false
        socket.uncork()
      })
    }
    return write.apply(socket, args)
  }) as typeof write
}

function serverVersion(model: ChannelModel): string {
  const properties = (model.connection as unknown as { serverProperties?: { version?: unknown } }).serverProperties
  return String(properties?.version ?? '')
}

function connectionFailure(error: Error): string {
  if (/ACCESS-REFUSED|ACCESS_REFUSED/.test(error.message)) return CREDENTIALS_REFUSED
  return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED' ? 'connection refused' : error.message.split('\n')[0]!
}
