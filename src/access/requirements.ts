// What a route wants of whoever calls it. A route says it in one line of its own, `config: { access: read('queue') }`; the
// access plugin asks for it before the body is read, and for what only the body tells once that is valid.

import { DEFAULT_EXCHANGE, type Right, type Rights } from './rights.js'

/** What is asked for, as the HTTP framework has it. */
export interface AccessRequest {
  params: unknown
  query: unknown
  body?: unknown
}

export interface Requirement {
  /** open: nobody is asked who he is. known: anybody who is let in. instance: no client at all. */
  readonly kind: 'open' | 'known' | 'rights' | 'instance'
  /** For people, in the OpenAPI document and in refusals. */
  readonly description: string
  readonly check: (rights: Rights, vhost: string, asked: AccessRequest) => boolean
  /** The part that stands in the body. */
  readonly checkBody?: (rights: Rights, vhost: string, asked: AccessRequest) => boolean
}

/** A route with what it wants. */
export interface ProtectedRoute {
  method: string
  url: string
  requirement: Requirement
}

/** The path parameters that are names. */
type Part = 'queue' | 'exchange' | 'destination' | 'name'

const named = ({ params }: AccessRequest, part: Part): string => (params as Partial<Record<Part, string>>)[part] ?? ''
const keyed = ({ query }: AccessRequest): string => {
  const { routing_key: key } = query as { routing_key?: string | string[] }
  return typeof key === 'string' ? key : ''
}
const yes = () => true
const rights = (says: string, allows: Requirement['check']): Requirement => ({ kind: 'rights', description: says, check: allows })

/** Health, and what has a switch of its own. */
export const openToAll: Requirement = { kind: 'open', description: 'nothing', check: yes }

/** Whoever is let in at all; what the request is about decides the rest. */
export const known: Requirement = { kind: 'known', description: 'to be known', check: yes }

/** Another instance, which shows with every request that it has the secret they share: the route itself sees to that. */
export const byInstance: Requirement = { kind: 'instance', description: 'to be another instance', check: yes }

/** `read` on the queue of each lease, which its id tells: asked where leases are looked up. */
export const readOfLease: Requirement = { kind: 'known', description: "`read` on the lease's queue", check: yes }

const one =
  (right: Right) =>
  (part: Part): Requirement =>
    rights(`\`${right}\` on the ${part}`, (rights, vhost, asked) => rights.allows(right, vhost, named(asked, part)))

export const configure = one('configure')
export const read = one('read')

/** A subscription: it reads its queue, and is something of its own. */
export const subscribe: Requirement = {
  ...configure('name'),
  description: "`configure` on the subscription's name and `read` on the queue",
  checkBody: (rights, vhost, asked) => rights.allows('read', vhost, (asked.body as { queue: string }).queue),
}
export const ofSubscription: Requirement = { ...configure('name'), description: "`configure` on the subscription's name" }
/** Of many: those are shown that one may see. */
export const listSubscriptions: Requirement = { ...known, description: '`configure` on the name of each' }

/** Dropping all messages: whoever may take each of them, or delete their queue, may do that too. */
export const purge = (part: Part): Requirement =>
  rights(
    `\`read\` or \`configure\` on the ${part}`,
    (rights, vhost, asked) =>
      rights.allows('read', vhost, named(asked, part)) || rights.allows('configure', vhost, named(asked, part)),
  )

/** Looking at it: any right that makes it known. */
export const readOrConfigure = (part: Part): Requirement =>
  rights(`any right on the ${part}`, (rights, vhost, asked) => rights.knows(vhost, named(asked, part)))

/** Publishing straight to a queue. */
export const publishToQueue: Requirement = rights('`write` on the queue', (rights, vhost, asked) =>
  rights.publishes(vhost, '', named(asked, 'queue')),
)

/** Publishing to an exchange, with the routing key of the query. */
export const publishToExchange: Requirement = rights('`write` on the exchange, for the routing key', (rights, vhost, asked) =>
  rights.publishes(vhost, named(asked, 'exchange'), keyed(asked)),
)

/** Publishing to an exchange where each message of the body may have a routing key of its own, which is asked for with it. */
export const publishManyToExchange: Requirement = rights(
  '`write` on the exchange, for the routing key of each message',
  (rights, vhost, asked) =>
    named(asked, 'exchange') === DEFAULT_EXCHANGE || rights.allows('write', vhost, named(asked, 'exchange')),
)

/** Binding and unbinding: `read` on where messages come from, with the routing key, and `write` on where they go. */
export const bindQueue: Requirement = rights(
  '`read` on the exchange and `write` on the queue, for the routing key',
  (rights, vhost, asked) =>
    rights.allowsKey('read', vhost, named(asked, 'exchange'), keyed(asked)) &&
    rights.allowsKey('write', vhost, named(asked, 'queue'), keyed(asked)),
)

/** The same between exchanges: what a source lets through has any routing key, whatever the binding's own is. */
export const bindExchange: Requirement = rights(
  '`read` on the source, for the routing key, and `write` on the destination, for every routing key',
  (rights, vhost, asked) =>
    rights.allowsKey('read', vhost, named(asked, 'exchange'), keyed(asked)) &&
    rights.allowsKey('write', vhost, named(asked, 'destination'), undefined),
)

/**
 * Declaring something that passes messages on by itself: what is named in the arguments is published to, and that needs the
 * right, or a queue of one's own would be a way to everybody's.
 */
function declare(part: Part, argument: string, keyArgument: string | undefined): Requirement {
  const { description: says, check: allows } = configure(part)
  return {
    kind: 'rights',
    description: `${says}; with \`${argument}\` also \`read\` on it and \`write\` there`,
    check: allows,
    checkBody: (rights, vhost, asked) => {
      const args = (asked.body as { arguments?: Record<string, unknown> } | undefined)?.arguments
      const target = args?.[argument]
      if (target === undefined) return true
      const key = keyArgument === undefined ? undefined : args?.[keyArgument]
      if (!rights.allows('read', vhost, named(asked, part))) return false
      // What is no text is for RabbitMQ to refuse; until then it could be anything.
      const isText = typeof target === 'string' && (key === undefined || typeof key === 'string')
      return isText ? rights.publishes(vhost, target, key) : rights.publishes(vhost, '*', undefined)
    },
  }
}

/** The queue for the dead letters of a queue that is declared with one. */
export const deadLetterQueue = (queue: string): string => `${queue}.dead`

const withArguments = declare('queue', 'x-dead-letter-exchange', 'x-dead-letter-routing-key')
export const declareQueue: Requirement = {
  ...withArguments,
  description: `${withArguments.description}; with \`dead_letter\` also that for \`<queue>.dead\`, and \`configure\` on it`,
  checkBody: (rights, vhost, asked) => {
    if (!withArguments.checkBody!(rights, vhost, asked)) return false
    if ((asked.body as { dead_letter?: boolean } | undefined)?.dead_letter !== true) return true
    const queue = named(asked, 'queue')
    const dead = deadLetterQueue(queue)
    return rights.allows('configure', vhost, dead) && rights.allows('read', vhost, queue) && rights.publishes(vhost, '', dead)
  },
}
export const declareExchange = declare('exchange', 'alternate-exchange', undefined)

/** Moving messages elsewhere: where each goes to is asked for with it, as far as it is not known before. */
export const redrive: Requirement = {
  ...read('queue'),
  description: '`read` on the queue, and `write` where its messages go',
  checkBody: (rights, vhost, asked) => {
    const { to } = (asked.body ?? {}) as { to?: string | { queue?: string; exchange?: string; routing_key?: string } }
    if (to === undefined) return true
    if (typeof to === 'string') return rights.publishes(vhost, '', to)
    if (to.queue !== undefined) return rights.publishes(vhost, '', to.queue)
    const exchange = to.exchange ?? ''
    if (to.routing_key !== undefined) return rights.publishes(vhost, exchange, to.routing_key)
    return exchange === DEFAULT_EXCHANGE || rights.allows('write', vhost, exchange)
  },
}

/** `read` on the queue of each redrive: asked where redrives are looked up. */
export const readOfRedrive: Requirement = { kind: 'known', description: "`read` on the redrive's queue", check: yes }
