// What somebody may do: `configure`, `write` and `read` on names in vhosts, in the scope grammar of RabbitMQ's OAuth 2 plugin
// (https://www.rabbitmq.com/docs/oauth2#scope-translation): `<right>:<vhost>/<name>[/<routing key>]`, each part with `*` for
// anything and percent-encoded.

export type Right = 'configure' | 'write' | 'read'

/** The name that the default exchange has in rights, as in RabbitMQ's own. */
export const DEFAULT_EXCHANGE = 'amq.default'

/**
 * How names of the gateway's own begin: what waits in these queues may be of every vhost, and what comes to them is obeyed. A
 * wildcard is not meant for them.
 */
const GATEWAY_PREFIX = 'gateway.'

/** A text in which `*` stands for anything, a slash too. Case matters. */
export class Pattern {
  readonly #first: string
  readonly #middle: string[]
  readonly #last: string | undefined

  /** @throws URIError where the percent-encoding is broken */
  constructor(text: string) {
    // A plus is a space, as RabbitMQ reads it; `%2A` and `%2B` are the characters themselves.
    const [first, ...rest] = text.split('*').map((part) => decodeURIComponent(part.replaceAll('+', ' ')))
    this.#first = first!
    this.#last = rest.pop()
    this.#middle = rest
  }

  /** What stands before the first wildcard. */
  get start(): string {
    return this.#first
  }

  get isAnything(): boolean {
    return this.#first === '' && this.#last === '' && this.#middle.every((part) => part === '')
  }

  /** In linear time, whatever the pattern: names are what strangers write. */
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

/** One right on whatever its patterns match. */
export interface Grant {
  /** As it was written. */
  scope: string
  right: Right
  vhost: Pattern
  name: Pattern
  /** Of what is published or bound; undefined: any. */
  routingKey: Pattern | undefined
}

const MAX_SCOPE = 2048

/** Reads a scope. @throws Error whose message says what is wrong with it */
export function parseGrant(scope: string): Grant {
  const match = /^(configure|write|read):([^/]+)\/([^/]+)(?:\/([^/]*))?$/.exec(scope)
  if (!match || scope.length > MAX_SCOPE) {
    throw new Error('is not like read:<vhost>/<name>, with configure, write or read, and %2F for a slash in a name')
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
    throw new Error('has a broken percent-encoding')
  }
}

/** Which routing keys a right on one name is for. */
type Keys = 'any' | 'none' | Pattern[]

const MAX_REMEMBERED_DECISIONS = 10_000

/** Rights as a text that can be kept: all there is, or scopes. */
export type WrittenRights = 'everything' | string[]

/** The rights of one identity. What was decided once is remembered, since most ask the same again and again. */
export class Rights {
  readonly #grants: readonly Grant[]
  readonly #everything: boolean
  readonly #decided: Record<Right, Map<string, Map<string, Keys>>> = { configure: new Map(), write: new Map(), read: new Map() }
  #remembered = 0

  /** @param grants 'everything': all there is, which nothing has to be looked up for */
  constructor(grants: readonly Grant[] | 'everything') {
    this.#everything = grants === 'everything'
    this.#grants = grants === 'everything' ? [] : grants
  }

  /** Rights as write() gave them. */
  static read(written: WrittenRights): Rights {
    return written === 'everything' ? ALL_RIGHTS : new Rights(written.map(parseGrant))
  }

  /** What there is of one right in a vhost, to be kept and read again, where it is asked for after its owner has gone. */
  write(right: Right, vhost: string): WrittenRights {
    if (this.#everything) return 'everything'
    return this.#grants.filter((one) => one.right === right && one.vhost.matches(vhost)).map(({ scope }) => scope)
  }

  /** Whether the right is there, for some routing key at least. */
  allows(right: Right, vhost: string, name: string): boolean {
    return this.#everything || this.#keys(right, vhost, name) !== 'none'
  }

  /** The same for one routing key. @param key undefined: for every one there could be */
  allowsKey(right: Right, vhost: string, name: string, key: string | undefined): boolean {
    if (this.#everything) return true
    const keys = this.#keys(right, vhost, name)
    if (typeof keys === 'string') return keys === 'any'
    return key !== undefined && keys.some((pattern) => pattern.matches(key))
  }

  /** Whether there is any right at all on the name: to know that it is there. */
  knows(vhost: string, name: string): boolean {
    return this.allows('read', vhost, name) || this.allows('write', vhost, name) || this.allows('configure', vhost, name)
  }

  /**
   * Whether a message may be published. The default exchange leads to the queue of the routing key, so the right is there
   * with `write` on either of the two.
   * @param exchange `''` and `amq.default` are the default exchange
   * @param key undefined: every one there could be
   */
  publishes(vhost: string, exchange: string, key: string | undefined): boolean {
    if (this.#everything) return true
    const isDefault = exchange === '' || exchange === DEFAULT_EXCHANGE
    if (isDefault && key !== undefined && this.allowsKey('write', vhost, key, key)) return true
    if (isDefault && key?.startsWith(GATEWAY_PREFIX)) return false
    return this.allowsKey('write', vhost, isDefault ? DEFAULT_EXCHANGE : exchange, key)
  }

  #keys(right: Right, vhost: string, name: string): Keys {
    const decided = this.#decided[right]
    const known = decided.get(vhost)?.get(name)
    if (known !== undefined) return known
    const grants = this.#grants.filter(
      (one) =>
        one.right === right &&
        one.vhost.matches(vhost) &&
        one.name.matches(name) &&
        (!name.startsWith(GATEWAY_PREFIX) || one.name.start.startsWith(GATEWAY_PREFIX)),
    )
    const any = grants.some(({ routingKey }) => routingKey === undefined || routingKey.isAnything)
    const keys = grants.length === 0 ? 'none' : any ? 'any' : grants.map(({ routingKey }) => routingKey!)
    this.#remember(decided, vhost, name, keys)
    return keys
  }

  /** Names come from clients: when there are too many, all are forgotten. */
  #remember(decided: Map<string, Map<string, Keys>>, vhost: string, name: string, keys: Keys): void {
    if (++this.#remembered > MAX_REMEMBERED_DECISIONS) {
      for (const right of Object.values(this.#decided)) right.clear()
      this.#remembered = 1
    }
    const names = decided.get(vhost)
    if (names) names.set(name, keys)
    else decided.set(vhost, new Map([[name, keys]]))
  }
}

/** Where nobody is asked who he is, or RabbitMQ itself decides. */
export const ALL_RIGHTS = new Rights('everything')
