// One self-healing connection to the broker: it connects with a deadline, reconnects with jitter, and knows whether RabbitMQ
// blocks publishing. Its owner sets up channels and consumers again at every incarnation.

import type { Config } from '../../config/index.js'
import { type Backoff, waitAfter } from '../../lib/backoff.js'
import type { Log } from '../../lib/log.js'
import { Problem } from '../../problems.js'
import { type Channel, type ChannelModel, type ConfirmChannel, type HandshakeError, maxPropertiesSize } from './amqplib.js'
import { channelsOf, type Role, type UserChannels } from './channels.js'
import { waitQuietly, within } from './deadline.js'
import { brokerProblem, type ConnectionFailure, channelLimit, connectionFailure, GIVEN_UP } from './errors.js'
import { discard, gatherWrites, openConnection, serverVersion, socketOf } from './open-connection.js'

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
  /** Runs once when an incarnation ends that was up or coming up, before the channels know. */
  onDown?: (error: Error) => void
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
  /** Why it is not up, for the log. */
  reason = 'connecting'
  /** The user that RabbitMQ knows it by; undefined before the first connection. */
  username: string | undefined
  /** The broker's version, such as `4.0.5`; empty before the first connection. */
  brokerVersion = ''
  /** Host and port of the node that it is connected to; empty if it is not. */
  node = ''

  readonly #settings: ConnectionSettings
  readonly #user: UserChannels
  #model: ChannelModel | undefined
  /** The channels of this incarnation. */
  #channels = { open: 0, isOver: false }
  #failure: ConnectionFailure | undefined
  #attempts = 0
  #retry: NodeJS.Timeout | undefined
  #firstAttempt: Promise<void>

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
    this.#user = channelsOf(settings.config, settings.login)
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
    const { refused, isClosedByBroker } = this.#failure ?? {}
    if (refused === 'credentials' && this.#settings.login) throw refusedLogin()
    if (refused === 'vhost') {
      throw new Problem('vhost_not_found', `RabbitMQ refuses the vhost '${this.#settings.vhost}': ${this.reason}.`)
    }
    throw new Problem(
      'broker_unavailable',
      isClosedByBroker
        ? `RabbitMQ refuses the connection: ${this.reason}.`
        : `RabbitMQ cannot be reached (the connection is ${this.state}). The log has the reason.`,
    )
  }

  /** The most bytes that the properties of a message may have. @throws Problem as `model()` */
  get maxPropertiesSize(): number {
    return maxPropertiesSize(this.model())
  }

  /** Whether RabbitMQ refused the vhost or the user for good, rather than being unreachable or at a limit. */
  get isRefused(): boolean {
    const refused = this.#failure?.refused
    return refused === 'vhost' || (refused === 'credentials' && this.#settings.login !== undefined)
  }

  /** The most channels that RabbitMQ lets this connection have, as far as it is known. */
  get maxChannels(): number {
    const { channelMax = 0 } = (this.#model?.connection ?? {}) as { channelMax?: number }
    return Math.min(channelMax, this.#user.share(this.#settings.role))
  }

  /** Whether RabbitMQ takes one channel more, as far as it is known. */
  get hasRoom(): boolean {
    const { role } = this.#settings
    return this.#channels.open < this.maxChannels && this.#user.open[role] < this.#user.share(role)
  }

  /**
   * Opens a channel on the live connection.
   * @throws Problem broker_unavailable, broker_timeout, too_many_waiters (all that RabbitMQ allows are open)
   */
  openChannel(model: ChannelModel): Promise<Channel> {
    return this.#count(model, model.createChannel())
  }

  /** Opens a channel with confirms. @throws Problem as `openChannel()` */
  openConfirmChannel(model: ChannelModel): Promise<ConfirmChannel> {
    return this.#count(model, model.createConfirmChannel())
  }

  /** The problem of a call that failed because the connection ended. */
  lost(cause?: unknown): Problem {
    const failure = this.#failure
    const detail = failure?.isClosedByBroker
      ? `RabbitMQ closed the connection: ${failure.reason}.`
      : 'The connection to RabbitMQ was lost.'
    return new Problem('broker_unavailable', detail, { cause })
  }

  /** Ends this incarnation and connects again: its channels can no longer be trusted. */
  destroy(reason: string): void {
    const model = this.#model
    if (!model || this.state === 'closed') return
    this.#settings.log.warn({ role: this.#settings.role, vhost: this.#settings.vhost, reason }, 'broker connection given up')
    socketOf(model)?.destroy(Object.assign(new Error(reason), { code: GIVEN_UP }))
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
    let model: ChannelModel | undefined
    try {
      const connected = await openConnection(config, { vhost, login, purpose: role, attempt: this.#attempts })
      const { hostname, port, username } = connected.address
      model = connected.model
      gatherWrites(socketOf(model))
      this.#watch(model)
      this.#channels = { open: 0, isOver: false }
      this.#model = model
      this.node = `${hostname}:${port}`
      this.brokerVersion = serverVersion(model)
      this.username = login?.username ?? username
      await within(config.BROKER_TIMEOUT, 'the set-up of a connection', this.#settings.onUp?.(model) ?? Promise.resolve())
      // It may have died during the set-up, and #lost has run; or it was closed, and its socket is destroyed here.
      if (this.state === 'closed') socketOf(model)?.destroy()
      if (this.#model !== model || (this.state as ConnectionState) === 'closed') return
      this.state = 'up'
      this.reason = ''
      this.#failure = undefined
      this.#attempts = 0
      log.info({ role, vhost, host: hostname, port, version: this.brokerVersion }, 'connected to the broker')
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
    this.node = ''
    const limit = channelLimit(error)
    if (limit !== undefined) this.#user.refused(limit)
    this.#user.open[this.#settings.role] -= this.#channels.open
    this.#channels.isOver = true
    this.#settings.onDown?.(error)
    this.#failed(error)
  }

  /** Counts a channel until it closes. */
  async #count<C extends Channel>(model: ChannelModel, opening: Promise<C>): Promise<C> {
    const { config, role } = this.#settings
    const channels = this.#channels
    const add = (change: 1 | -1) => {
      if (channels.isOver) return
      channels.open += change
      this.#user.open[role] += change
    }
    add(1)
    try {
      const channel = await within(config.BROKER_TIMEOUT, 'channel.open', opening)
      channel.once('close', () => add(-1))
      return channel
    } catch (error) {
      add(-1)
      const problem = brokerProblem(error)
      throw problem.code === 'broker_unavailable' && this.#model !== model ? this.lost(error) : problem
    }
  }

  #failed(error: Error): void {
    if (this.state === 'closed') return
    this.state = 'down'
    this.#failure = connectionFailure(error)
    this.reason = this.#failure.reason
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
  const vhost = config.AMQP_URL[0]?.vhost ?? '/'
  try {
    const { model } = await openConnection(config, { vhost, login, purpose: 'login' })
    discard(model)
    return true
  } catch (error) {
    if ((error as Partial<HandshakeError>).isAuthenticated) return true
    if (connectionFailure(error as Error).refused === 'credentials') return false
    // The caller is not known yet, so they do not get to see the reason.
    throw new Problem('broker_unavailable', 'RabbitMQ cannot be asked about the user. The log has the reason.', { cause: error })
  }
}

/** The problem of credentials that RabbitMQ does not accept. */
export function refusedLogin(): Problem {
  const challenge = 'Basic realm="rabbitmq-http-gateway", charset="UTF-8"'
  return new Problem('unauthorized', 'RabbitMQ does not accept these credentials.', { challenge })
}
