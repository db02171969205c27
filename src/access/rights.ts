// Rights: `configure`, `write` and `read` on names in vhosts, in the scope grammar of RabbitMQ's OAuth 2 plugin
// (https://www.rabbitmq.com/docs/oauth2#scope-translation): `<right>:<vhost>/<name>[/<routing key>]`. Each part is
// percent-encoded, with `*` as a wildcard.

import { LruMap } from 'toad-cache'
import { isReserved } from '../amqp/wire/reserved.js'

export type Right = 'configure' | 'write' | 'read'

/** The name of the default exchange in rights, as in RabbitMQ's permissions. */
export const DEFAULT_EXCHANGE = 'amq.default'

/** A pattern in which `*` matches any text, slashes included. Case-sensitive. */
export class Pattern {
  readonly #first: string
  readonly #middle: string[]
  readonly #last: string | undefined

  /** @throws URIError if the percent-encoding is invalid */
  constructor(text: string) {
    // As in RabbitMQ, a plus is a space; `%2A` and `%2B` are the characters themselves.
    const [first, ...rest] = text.split('*').map((part) => decodeURIComponent(part.replaceAll('+', ' ')))
    this.#first = first!
    this.#last = rest.pop()
    this.#middle = rest
  }

  /** Whether it matches every text. */
  get isAnything(): boolean {
    return this.#first === '' && this.#last === '' && this.#middle.every((part) => part === '')
  }

  /** Whether the text matches. Takes linear time for any pattern, because clients choose the names. */
  matches(text: string): boolean {
    if (this.#last === undefined) return text === this.#first
    if (!text.startsWith(this.#first)) return false
    let at = this.#first.length
    for (const part of this.#middle) {
      const found = text.indexOf(part, at)
      if (found === -1) return false
      at = found + part.length
    }
    return text.length - at >= this.#last.length && text.endsWith(this.#last)
  }
}

/** One right, on all names that its patterns match. */
export interface Grant {
  /** The scope it was parsed from. */
  scope: string
  right: Right
  vhost: Pattern
  name: Pattern
  /** The routing keys to publish or bind with; undefined: any. */
  routingKey: Pattern | undefined
}

/** The longest scope, in characters. */
export const MAX_SCOPE_CHARS = 2048
/** The form of a scope; the parts still have to be valid percent-encoding. */
export const SCOPE_FORMAT = /^(configure|write|read):([^/]+)\/([^/]+)(?:\/([^/]*))?$/

/** Parses a scope. @throws Error whose message completes "the scope …" */
export function parseGrant(scope: string): Grant {
  const match = SCOPE_FORMAT.exec(scope)
  if (!match || scope.length > MAX_SCOPE_CHARS) {
    throw new Error('must be like read:<vhost>/<name>, with configure, write or read, and %2F for a slash in a name')
  }
  try {
    const [, right, vhost, name, routingKey] = match
    return {
      scope,
      right: right as Right,
      vhost: new Pattern(vhost!),
      name: new Pattern(name!),
      routingKey: routingKey === undefined ? undefined : new Pattern(routingKey),
    }
  } catch {
    throw new Error('has an invalid percent-encoding')
  }
}

/** The routing keys that a right on a name covers. */
type Keys = 'any' | 'none' | Pattern[]

/** Clients choose the names, so their number is bounded. */
const MAX_REMEMBERED_DECISIONS = 10_000

/** Rights in a form that can be stored: everything, or a list of scopes. */
export type WrittenRights = 'everything' | string[]

/** The rights of one identity. Decisions are remembered, because most clients use the same few names again and again. */
export class Rights {
  readonly #grants: readonly Grant[]
  readonly #everything: boolean
  readonly #decided = new LruMap<Keys>(MAX_REMEMBERED_DECISIONS)

  /** @param grants 'everything': all rights on all names, without a lookup */
  constructor(grants: readonly Grant[] | 'everything') {
    this.#everything = grants === 'everything'
    this.#grants = grants === 'everything' ? [] : grants
  }

  /** Reads rights that `write()` has written. */
  static read(written: WrittenRights): Rights {
    return written === 'everything' ? ALL_RIGHTS : new Rights(written.map(parseGrant))
  }

  /** Writes one right in one vhost, to be stored and checked later, when the request of its owner is over. */
  write(right: Right, vhost: string): WrittenRights {
    if (this.#everything) return 'everything'
    return this.#grants.filter((one) => one.right === right && one.vhost.matches(vhost)).map(({ scope }) => scope)
  }

  /** Whether the right on the name exists, at least for some routing keys. */
  allows(right: Right, vhost: string, name: string): boolean {
    return this.#everything || this.#keys(right, vhost, name) !== 'none'
  }

  /** Whether the right on the name exists for a routing key. @param key undefined: for every routing key */
  allowsKey(right: Right, vhost: string, name: string, key: string | undefined): boolean {
    if (this.#everything) return true
    const keys = this.#keys(right, vhost, name)
    if (typeof keys === 'string') return keys === 'any'
    return key !== undefined && keys.some((pattern) => pattern.matches(key))
  }

  /** Whether any right on the name exists, so that its owner may know that it exists. */
  knows(vhost: string, name: string): boolean {
    return this.allows('read', vhost, name) || this.allows('write', vhost, name) || this.allows('configure', vhost, name)
  }

  /**
   * Whether a message may be published. The default exchange routes to the queue that the routing key names, so `write` on either
   * of the two is enough.
   * @param exchange `''` and `amq.default` are the default exchange
   * @param key undefined: every routing key
   */
  publishes(vhost: string, exchange: string, key: string | undefined): boolean {
    if (this.#everything) return true
    const isDefault = exchange === '' || exchange === DEFAULT_EXCHANGE
    if (isDefault && key !== undefined && this.allowsKey('write', vhost, key, key)) return true
    if (isDefault && key !== undefined && isReserved(key)) return false
    return this.allowsKey('write', vhost, isDefault ? DEFAULT_EXCHANGE : exchange, key)
  }

  #keys(right: Right, vhost: string, name: string): Keys {
    // The length keeps the two names apart whatever characters they have.
    const decision = `${right} ${vhost.length} ${vhost}${name}`
    const known = this.#decided.get(decision)
    if (known !== undefined) return known
    // No right is a right on what belongs to the gateway.
    const grants = isReserved(name)
      ? []
      : this.#grants.filter((one) => one.right === right && one.vhost.matches(vhost) && one.name.matches(name))
    const any = grants.some(({ routingKey }) => routingKey === undefined || routingKey.isAnything)
    const keys = grants.length === 0 ? 'none' : any ? 'any' : grants.map(({ routingKey }) => routingKey!)
    this.#decided.set(decision, keys)
    return keys
  }
}

/** All rights: for a gateway that does not authenticate, and for users whose rights RabbitMQ itself checks. */
export const ALL_RIGHTS = new Rights('everything')
