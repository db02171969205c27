// AUTH=broker: RabbitMQ's own users. RabbitMQ is asked whether it knows a user, and decides what they may do. Its answer is
// remembered for a few minutes. Refusals are throttled, so that passwords cannot be guessed faster through the gateway than
// elsewhere.

import { hash } from 'node:crypto'
import { LruMap } from 'toad-cache'
import { isKnownUser, type Login, refusedLogin } from '../amqp/wire/connection.js'
import type { Config } from '../config/index.js'
import { now } from '../lib/clock.js'
import { ExpiringMap } from '../lib/expiring-map.js'
import { Problem } from '../problems.js'
import type { AuthenticationRequest, Authenticator, AuthenticatorOptions } from './authenticator.js'
import type { Credentials } from './credentials.js'
import type { Identity } from './identity.js'
import { ALL_RIGHTS } from './rights.js'

/** If RabbitMQ cannot be asked again, its last answer is believed for this many times BROKER_USER_RECHECK_INTERVAL. */
const BELIEVED_FACTOR = 1.25
/** How long an open stream or poll goes on with an answer that is due for a recheck, if the recheck has not failed. */
const BELIEVED_OPEN_MS = 5 * 60_000
/** The most users, refused credentials and addresses that are remembered, of each. */
const MAX_REMEMBERED_USERS = 10_000
/** How long credentials that RabbitMQ refused are refused again without asking it. */
const REFUSED_FOR_MS = 2000
/** After this many refusals of one address within the window, RabbitMQ is not asked about unknown credentials from it. */
const MAX_REFUSALS = 10
const REFUSALS_WINDOW_MS = 30_000
/** The most users that RabbitMQ is asked about at the same time. */
const MAX_CONCURRENT_CHECKS = 16

interface KnownUser {
  identity: Identity
  login: Login
  askedAt: number
  /** RabbitMQ no longer accepts the user: for requests that still hold the identity. */
  gone: boolean
  /** The last recheck failed. */
  unanswered: boolean
  asking: Promise<void> | undefined
}

/** Users of RabbitMQ, if AUTH names them. */
export const createBrokerUsers = ({ config }: AuthenticatorOptions): BrokerUsers | undefined =>
  config.AUTH.includes('broker') ? new BrokerUsers(config) : undefined

/** Authenticates clients by asking RabbitMQ whether it accepts their user name and password, or their token. */
export class BrokerUsers implements Authenticator {
  readonly credential = 'RabbitMQ user'
  readonly refuse = refusedLogin
  readonly #config: Config
  #onGone: ((login: Login) => void) | undefined
  readonly #known = new LruMap<KnownUser>(MAX_REMEMBERED_USERS)
  readonly #refused = new ExpiringMap<true>(MAX_REMEMBERED_USERS, REFUSED_FOR_MS)
  /** By address, in the window that begins with the first refusal. */
  readonly #refusals = new ExpiringMap<{ count: number }>(MAX_REMEMBERED_USERS, REFUSALS_WINDOW_MS)
  readonly #checking = new Map<string, Promise<Identity | Problem>>()
  #checks = 0

  constructor(config: Config) {
    this.#config = config
  }

  onUserGone(listener: (login: Login) => void): void {
    this.#onGone = listener
  }

  /**
   * Looks up a user, and asks RabbitMQ if its last answer is not recent.
   * @returns undefined for a request without credentials; Problem `unauthorized`, `rate_limited`, `overloaded` or
   *   `broker_unavailable` if the user is refused or cannot be checked
   */
  find({ credentials, clientKey }: AuthenticationRequest): Identity | Problem | undefined | Promise<Identity | Problem> {
    if (typeof credentials === 'string') return undefined
    const { scheme, user, secret } = credentials
    // AMQP's PLAIN mechanism separates the two by zero bytes.
    if (user.includes('\0') || secret.includes('\0')) return refusedLogin()
    const key = hash('sha256', `${scheme}\0${user}\0${secret}`)
    const known = this.#known.get(key)
    if (known) return this.#age(known) < 1 ? known.identity : this.#afterRecheck(known)
    const asking = this.#checking.get(key)
    if (asking) return asking
    const address = clientKey()
    const throttled = this.#throttle(key, address)
    if (throttled) return throttled
    const login = { key, username: user, password: secret, subject: subjectOf(scheme, user, secret, key) }
    const answer = this.#check(login, address)
      .catch((error: unknown) => {
        if (error instanceof Problem) return error
        throw error
      })
      .finally(() => this.#checking.delete(key))
    this.#checking.set(key, answer)
    return answer
  }

  /** How long ago RabbitMQ was asked, in multiples of BROKER_USER_RECHECK_INTERVAL. */
  #age({ askedAt }: KnownUser): number {
    return (now() - askedAt) / this.#config.BROKER_USER_RECHECK_INTERVAL
  }

  async #afterRecheck(known: KnownUser): Promise<Identity | Problem> {
    await this.#recheck(known)
    if (known.gone) return refusedLogin()
    if (this.#age(known) < BELIEVED_FACTOR) return known.identity
    return new Problem('broker_unavailable', 'RabbitMQ cannot be asked at the moment whether it still accepts this user.')
  }

  /** The problem if RabbitMQ is not to be asked about these credentials now. */
  #throttle(key: string, address: string): Problem | undefined {
    if (this.#refused.get(key)) return refusedLogin()
    const refusals = this.#refusals.get(address)
    if (refusals && refusals.count >= MAX_REFUSALS) {
      const left = this.#refusals.remaining(address)
      const detail = 'Too many credentials from this address were refused. RabbitMQ is not asked about more of them for now.'
      return new Problem('rate_limited', detail, { retryAfter: Math.max(1, Math.ceil(left / 1000)) })
    }
    return this.#checks >= MAX_CONCURRENT_CHECKS
      ? new Problem('overloaded', `RabbitMQ is already being asked about ${MAX_CONCURRENT_CHECKS} users.`)
      : undefined
  }

  async #check(login: Login, address: string): Promise<Identity | Problem> {
    if (await this.#isKnown(login)) return this.#remember(login)
    this.#refused.set(login.key, true)
    const refusals = this.#refusals.get(address)
    if (refusals) refusals.count++
    else this.#refusals.set(address, { count: 1 })
    return refusedLogin()
  }

  async #isKnown(login: Login): Promise<boolean> {
    this.#checks++
    try {
      return await isKnownUser(this.#config, login)
    } finally {
      this.#checks--
    }
  }

  #remember(login: Login): Identity {
    const { username, key, subject } = login
    const known: KnownUser = {
      identity: undefined as never,
      login,
      askedAt: now(),
      gone: false,
      unanswered: false,
      asking: undefined,
    }
    const identity: Identity = {
      name: `user ${(username || subject).replace(/[^\x20-\x7e]/g, '?').slice(0, 128)}`,
      rights: ALL_RIGHTS,
      headers: undefined,
      setsUserId: username !== '',
      login,
      current: () => {
        if (this.#age(known) >= 1) void this.#recheck(known)
        const believed = this.#age(known) < BELIEVED_FACTOR || (!known.unanswered && now() - known.askedAt < BELIEVED_OPEN_MS)
        return !known.gone && believed ? identity : undefined
      },
    }
    known.identity = identity
    this.#known.set(key, known)
    return identity
  }

  /** Asks RabbitMQ again. Never rejects: if RabbitMQ cannot be asked, its last answer stays for its time. */
  #recheck(known: KnownUser): Promise<void> {
    const { login } = known
    known.asking ??= this.#isKnown(login)
      .then((still) => {
        known.unanswered = false
        if (still) {
          known.askedAt = now()
          return
        }
        known.gone = true
        if (this.#known.get(login.key) === known) this.#known.delete(login.key)
        this.#onGone?.(login)
      })
      .catch(() => {
        known.unanswered = true
      })
      .finally(() => {
        known.asking = undefined
      })
    return known.asking
  }
}

/**
 * The owner of a login, the same for every password of a user. A bearer token comes without a user name, so its owner is read
 * from its claims, which RabbitMQ verified when it accepted the token: a renewed token then has the same owner.
 */
function subjectOf(scheme: Credentials['scheme'], user: string, secret: string, key: string): string {
  if (scheme === 'basic') return `user ${user}`
  try {
    const { iss, sub } = JSON.parse(Buffer.from(secret.split('.')[1]!, 'base64url').toString('utf8')) as Record<string, unknown>
    if (typeof sub === 'string' && sub !== '') return `token ${String(iss)} ${sub}`
  } catch {
    // a secret that is not a JSON Web Token
  }
  return `token ${key.slice(0, 16)}`
}
