// The broker's own users: RabbitMQ is asked whether it knows somebody, and decides what he may do. What it said is remembered for
// a few minutes; who is refused has to wait, so that passwords can't be guessed through here faster than anywhere else.

import { hash } from 'node:crypto'
import { isKnownUser, type Login, refusedLogin } from '../amqp/wire/connection.js'
import type { Config } from '../config/index.js'
import { Problem } from '../problems.js'
import type { Credentials } from './credentials.js'
import type { Identity } from './identity.js'
import { ALL_RIGHTS } from './rights.js'

/** What RabbitMQ said counts for so many times BROKER_USER_RECHECK_INTERVAL, where it can't be asked again. */
const BELIEVED_FACTOR = 1.25
/** Whoever has something open is believed for so long where RabbitMQ was not asked about him meanwhile, and now is. */
const BELIEVED_OPEN_MS = 5 * 60_000
/** Logins, refused credentials and addresses are remembered up to so many of each. */
const MAX_REMEMBERED_USERS = 10_000
/** The same credentials, once refused, are refused unasked for so long. */
const REFUSED_FOR_MS = 2000
/** So many refusals of one address in so much time, and RabbitMQ is not asked about others of it. */
const MAX_REFUSALS = 10
const REFUSALS_WINDOW_MS = 30_000
/** Asked at the same time. */
const MAX_CONCURRENT_CHECKS = 16

interface KnownUser {
  identity: Identity
  login: Login
  askedAt: number
  /** Told no: for those who still hold the identity. */
  gone: boolean
  /** Asked in vain, the last time. */
  unanswered: boolean
  asking: Promise<void> | undefined
}

export class BrokerUsers {
  readonly #config: Config
  readonly #onGone: (login: Login) => void
  /** In order of their last use. */
  readonly #known = new Map<string, KnownUser>()
  /** Until when credentials are refused unasked. */
  readonly #refused = new Map<string, number>()
  readonly #refusals = new Map<string, { count: number; since: number }>()
  readonly #checking = new Map<string, Promise<Identity>>()
  #checks = 0

  /** @param onGone told of a login that RabbitMQ does not take any more */
  constructor(config: Config, onGone: (login: Login) => void) {
    this.#config = config
    this.#onGone = onGone
  }

  /**
   * Who it is, as RabbitMQ said not long ago.
   * @param place where the request comes from
   * @throws Problem unauthorized, rate_limited, overloaded, broker_unavailable
   */
  find({ scheme, user, secret }: Credentials, place: () => string): Identity | Promise<Identity> {
    // AMQP's PLAIN has them separated by zero bytes.
    if (user.includes('\0') || secret.includes('\0')) throw refusedLogin()
    const key = hash('sha256', `${scheme}\0${user}\0${secret}`)
    const known = this.#known.get(key)
    if (known) {
      this.#known.delete(key)
      this.#known.set(key, known)
      if (this.#age(known) < 1) return known.identity
      return this.#recheck(known).then(() => {
        if (known.gone) throw refusedLogin()
        if (this.#age(known) < BELIEVED_FACTOR) return known.identity
        throw new Problem('broker_unavailable', "RabbitMQ can't be asked just now whether it still knows who that is.")
      })
    }
    const asking = this.#checking.get(key)
    if (asking) return asking
    const address = place()
    this.#throttle(key, address)
    const login = { key, username: user, password: secret, subject: subjectOf(scheme, user, secret, key) }
    const answer = this.#check(login, address).finally(() => this.#checking.delete(key))
    this.#checking.set(key, answer)
    return answer
  }

  /** How long ago RabbitMQ was asked, as so many times BROKER_USER_RECHECK_INTERVAL. */
  #age({ askedAt }: KnownUser): number {
    return (Date.now() - askedAt) / this.#config.BROKER_USER_RECHECK_INTERVAL
  }

  /** @throws Problem where RabbitMQ is not to be asked */
  #throttle(key: string, address: string): void {
    const now = Date.now()
    if ((this.#refused.get(key) ?? 0) > now) throw refusedLogin()
    const refusals = this.#refusals.get(address)
    if (refusals && refusals.count >= MAX_REFUSALS) {
      const left = refusals.since + REFUSALS_WINDOW_MS - now
      const detail = 'Too many credentials from this address were refused. RabbitMQ is not asked about more of them just now.'
      if (left > 0) throw new Problem('rate_limited', detail, { retryAfter: Math.ceil(left / 1000) })
      this.#refusals.delete(address)
    }
    if (this.#checks >= MAX_CONCURRENT_CHECKS)
      throw new Problem('overloaded', 'RabbitMQ is being asked about as many logins as it may.')
  }

  async #check(login: Login, address: string): Promise<Identity> {
    if (await this.#isKnown(login)) return this.#remember(login)
    const now = Date.now()
    bounded(this.#refused, login.key, now + REFUSED_FOR_MS)
    const { count, since } = this.#refusals.get(address) ?? { count: 0, since: now }
    const fresh = now - since > REFUSALS_WINDOW_MS
    bounded(this.#refusals, address, fresh ? { count: 1, since: now } : { count: count + 1, since })
    throw refusedLogin()
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
      askedAt: Date.now(),
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
        const believed =
          this.#age(known) < BELIEVED_FACTOR || (!known.unanswered && Date.now() - known.askedAt < BELIEVED_OPEN_MS)
        return !known.gone && believed ? identity : undefined
      },
    }
    known.identity = identity
    bounded(this.#known, key, known)
    return identity
  }

  /** Never rejects: where RabbitMQ can't be asked, what it said last counts for its time. */
  #recheck(known: KnownUser): Promise<void> {
    const { login } = known
    known.asking ??= this.#isKnown(login)
      .then((still) => {
        known.unanswered = false
        if (still) {
          known.askedAt = Date.now()
          return
        }
        known.gone = true
        if (this.#known.get(login.key) === known) this.#known.delete(login.key)
        this.#onGone(login)
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

/** Sets it as the last of the map, and takes the first away where there are too many. */
function bounded<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > MAX_REMEMBERED_USERS) map.delete(map.keys().next().value!)
}

/**
 * The same for all passwords of a user. A bearer token has no user's name beside it: RabbitMQ, which took it, has checked whom
 * it was issued to, so that a renewed one is the same owner's.
 */
function subjectOf(scheme: Credentials['scheme'], user: string, secret: string, key: string): string {
  if (scheme === 'basic') return `user ${user}`
  try {
    const { iss, sub } = JSON.parse(Buffer.from(secret.split('.')[1]!, 'base64url').toString('utf8')) as Record<string, unknown>
    if (typeof sub === 'string' && sub !== '') return `token ${String(iss)} ${sub}`
  } catch {
    // a password of another kind
  }
  return `token ${key.slice(0, 16)}`
}
