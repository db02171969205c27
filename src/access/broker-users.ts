// AUTH=broker: RabbitMQ's own users. RabbitMQ is asked whether it knows a user, and decides what they may do. Its answer is
// remembered for a few minutes. Refusals are throttled, so that passwords cannot be guessed faster through the gateway than
// elsewhere.

import { hash } from 'node:crypto'
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { LruMap } from 'toad-cache'
import { isKnownUser, type Login, refusedLogin } from '../amqp/wire/connection.js'
import type { Config } from '../config/index.js'
import { now } from '../lib/clock.js'
import { ExpiringMap } from '../lib/expiring-map.js'
import { Problem } from '../problems.js'
import type { AuthenticationRequest, Authenticator, AuthenticatorOptions } from './authenticator.js'
import type { Credentials } from './credentials.js'
import { type Guess, GuessLimits } from './guess-limits.js'
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
/** The most users that RabbitMQ is asked about at the same time. */
const MAX_CONCURRENT_CHECKS = 16
/** The most that wait until RabbitMQ can be asked about them. */
const MAX_WAITING_CHECKS = 200

/** A login, with every name by which RabbitMQ may know its user. */
interface ClientLogin extends Login {
  names: readonly string[]
}

interface KnownUser {
  identity: Identity
  login: ClientLogin
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
  readonly #guesses = new GuessLimits()
  readonly #checking = new Map<string, Promise<Identity | Problem>>()
  #checks = 0
  /** Those that wait, to be called when a check ends. */
  #waiting: (() => void)[] = []

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
  find({ credentials, address }: AuthenticationRequest): Identity | Problem | undefined | Promise<Identity | Problem> {
    if (typeof credentials === 'string') return undefined
    const { user, secret } = credentials
    // AMQP's PLAIN mechanism separates the two by zero bytes.
    if (user.includes('\0') || secret.includes('\0')) return refusedLogin()
    const key = keyOf(credentials)
    const asKnown = this.#known.get(key)
    const logins = asKnown ? [asKnown.login] : loginsOf(credentials, key)
    const isLocalOnly = logins.some(({ names }) => names.some((name) => this.#config.LOOPBACK_USERS.includes(name)))
    if (isLocalOnly && !isLoopback(address)) return refusedLogin()
    const known = asKnown ?? logins.map((login) => this.#known.get(login.key)).find((one) => one !== undefined)
    if (known) return this.#age(known) < 1 ? known.identity : this.#afterRecheck(known)
    const asking = this.#checking.get(key)
    if (asking) return asking
    if (this.#refused.get(key)) return refusedLogin()
    const answer = this.#check(logins, key, user, address)
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

  /** Asks RabbitMQ about the logins in turn, until it knows one. */
  async #check(logins: ClientLogin[], key: string, user: string, address: string): Promise<Identity | Problem> {
    const guess = await this.#beginGuess(user, address)
    let isRefused = false
    try {
      for (const login of logins) if (await isKnownUser(this.#config, login)) return this.#remember(login)
      isRefused = true
    } finally {
      this.#checks--
      guess.end(isRefused)
      for (const wake of this.#waiting.splice(0)) wake()
    }
    this.#refused.set(key, true)
    return refusedLogin()
  }

  /** Waits until RabbitMQ may be asked. @throws Problem rate_limited, overloaded */
  async #beginGuess(user: string, address: string): Promise<Guess> {
    for (;;) {
      const guess = this.#checks < MAX_CONCURRENT_CHECKS ? this.#guesses.begin(user, address) : 'busy'
      if (guess === 'busy') {
        if (this.#waiting.length >= MAX_WAITING_CHECKS)
          throw new Problem('overloaded', `RabbitMQ is already being asked about ${MAX_CONCURRENT_CHECKS} users.`)
        await new Promise<void>((resolve) => this.#waiting.push(resolve))
      } else if ('end' in guess) {
        this.#checks++
        return guess
      } else {
        const detail =
          'Too many credentials of this user or from this network were refused. RabbitMQ is not asked about more of them for now.'
        throw new Problem('rate_limited', detail, { retryAfter: Math.max(1, Math.ceil(guess.retryAfter / 1000)) })
      }
    }
  }

  #remember(login: ClientLogin): Identity {
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
      name: shownName(subject),
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
    known.asking ??= isKnownUser(this.#config, login)
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
 * The logins that credentials may be, in the order in which RabbitMQ is asked. RabbitMQ's OAuth 2 plugin takes a token as the
 * password of any user name, so a token is first tried without the name: who it belongs to is what it says itself.
 */
function loginsOf({ scheme, user, secret }: Credentials, key: string): ClientLogin[] {
  const claims = claimsOf(secret)
  const named = { key, username: user, password: secret, subject: `user ${user}`, names: [user] }
  if (scheme === 'basic' && !claims) return [named]
  const tokenKey = scheme === 'bearer' ? key : keyOf({ scheme: 'bearer', user: '', secret })
  const subject = claims ? `token ${JSON.stringify([claims.iss, claims.sub])}` : `token ${tokenKey.slice(0, 16)}`
  const token = { key: tokenKey, username: '', password: secret, subject, names: claims ? [claims.sub] : [] }
  return scheme === 'bearer' ? [token] : [token, named]
}

/** Tells credentials apart without keeping them. */
const keyOf = ({ scheme, user, secret }: Credentials): string => hash('sha256', `${scheme}\0${user}\0${secret}`)

/** Who a JSON Web Token is for; undefined if it is something else. RabbitMQ has verified it if it accepts it. */
function claimsOf(secret: string): { iss: unknown; sub: string } | undefined {
  const parts = secret.split('.')
  if (parts.length !== 3) return undefined
  try {
    const claims = JSON.parse(Buffer.from(parts[1]!, 'base64url').toString('utf8')) as { iss?: unknown; sub?: unknown } | null
    return typeof claims?.sub === 'string' && claims.sub !== '' ? { iss: claims.iss, sub: claims.sub } : undefined
  } catch {
    return undefined
  }
}

const isLoopback = (address: string): boolean => isIP(address) !== 0 && ipaddr.process(address).range() === 'loopback'

/** For the log and the rate limit: of two subjects that would look the same, each shows a digest. */
function shownName(subject: string): string {
  const name = subject.replace(/[^\x20-\x7e]/g, '?').slice(0, 128)
  return name === subject ? name : `${name} (${hash('sha256', subject).slice(0, 8)})`
}
