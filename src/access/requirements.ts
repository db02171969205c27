// The rights that routes require of their callers. A route declares its requirement in one line, `config: { access: read('queue')
// }`; the access plugin checks it before the body is read, and the part that depends on the body once that is valid.

import { DEFAULT_EXCHANGE, type Right, type Rights } from './rights.js'

/** A request, as far as requirements look at it. */
export interface AccessRequest {
  params: unknown
  query: unknown
  body?: unknown
}

/** What a route requires of its callers. */
export interface Requirement {
  /** open: no credentials. known: any valid credentials. rights: see `check`. instance: another instance, never a client. */
  readonly kind: 'open' | 'known' | 'rights' | 'instance'
  /** Completes "This requires …" in refusals; also stands in the OpenAPI document. */
  readonly description: string
  readonly check: (rights: Rights, vhost: string, request: AccessRequest) => boolean
  /** The part that depends on the body. */
  readonly checkBody?: (rights: Rights, vhost: string, request: AccessRequest) => boolean
}

/** A route with its requirement. */
export interface ProtectedRoute {
  method: string
  url: string
  requirement: Requirement
}

/** Path parameters that name a resource. */
type Part = 'queue' | 'exchange' | 'destination' | 'name'

const named = ({ params }: AccessRequest, part: Part): string => (params as Partial<Record<Part, string>>)[part] ?? ''
const keyed = ({ query }: AccessRequest): string => {
  const { routing_key: key } = query as { routing_key?: string | string[] }
  return typeof key === 'string' ? key : ''
}
const yes = () => true
const rights = (description: string, check: Requirement['check']): Requirement => ({ kind: 'rights', description, check })

/** Health, docs and metrics: no credentials. */
export const openToAll: Requirement = { kind: 'open', description: 'nothing', check: yes }

/** Any valid credentials; the route itself checks the rest. */
export const known: Requirement = { kind: 'known', description: 'valid credentials', check: yes }

/** Another instance. The route itself checks the signature that each of their requests has. */
export const byInstance: Requirement = { kind: 'instance', description: 'the signature of another instance', check: yes }

/** `read` on the queue of each lease, which the lease id names: checked when the lease is looked up. */
export const readOfLease: Requirement = { kind: 'known', description: "`read` on the lease's queue", check: yes }

const one =
  (right: Right) =>
  (part: Part): Requirement =>
    rights(`\`${right}\` on the ${part}`, (rights, vhost, request) => rights.allows(right, vhost, named(request, part)))

export const configure = one('configure')
export const read = one('read')

/** Creating a subscription, which reads from a queue. */
export const subscribe: Requirement = {
  ...configure('name'),
  description: "`configure` on the subscription's name and `read` on the queue",
  checkBody: (rights, vhost, request) => rights.allows('read', vhost, (request.body as { queue: string }).queue),
}
export const ofSubscription: Requirement = { ...configure('name'), description: "`configure` on the subscription's name" }
/** Listing subscriptions: only those that the caller may configure are listed. */
export const listSubscriptions: Requirement = { ...known, description: '`configure` on the name of each' }

/** Purging: a caller who may receive every message, or delete the queue, may do that too. */
export const purge = (part: Part): Requirement =>
  rights(
    `\`read\` or \`configure\` on the ${part}`,
    (rights, vhost, request) =>
      rights.allows('read', vhost, named(request, part)) || rights.allows('configure', vhost, named(request, part)),
  )

/** Inspecting a resource: any right on it. */
export const readOrConfigure = (part: Part): Requirement =>
  rights(`any right on the ${part}`, (rights, vhost, request) => rights.knows(vhost, named(request, part)))

/** Publishing to a queue. */
export const publishToQueue: Requirement = rights('`write` on the queue', (rights, vhost, request) =>
  rights.publishes(vhost, '', named(request, 'queue')),
)

/** Publishing to an exchange, with the routing key from the query. */
export const publishToExchange: Requirement = rights('`write` on the exchange, for the routing key', (rights, vhost, request) =>
  rights.publishes(vhost, named(request, 'exchange'), keyed(request)),
)

/** Publishing a batch to an exchange: each message may have its own routing key, which is checked when it is read. */
export const publishManyToExchange: Requirement = rights(
  '`write` on the exchange, for the routing key of each message',
  (rights, vhost, request) =>
    named(request, 'exchange') === DEFAULT_EXCHANGE || rights.allows('write', vhost, named(request, 'exchange')),
)

/** Binding and unbinding a queue: `read` on the source and `write` on the destination, both for the routing key. */
export const bindQueue: Requirement = rights(
  '`read` on the exchange and `write` on the queue, for the routing key',
  (rights, vhost, request) =>
    rights.allowsKey('read', vhost, named(request, 'exchange'), keyed(request)) &&
    rights.allowsKey('write', vhost, named(request, 'queue'), keyed(request)),
)

/** Binding and unbinding exchanges: messages pass with any routing key, whatever the binding's own is. */
export const bindExchange: Requirement = rights(
  '`read` on the source, for the routing key, and `write` on the destination, for every routing key',
  (rights, vhost, request) =>
    rights.allowsKey('read', vhost, named(request, 'exchange'), keyed(request)) &&
    rights.allowsKey('write', vhost, named(request, 'destination'), undefined),
)

/**
 * Declaring a queue or exchange with a dead-letter or alternate exchange. RabbitMQ publishes to it on its own, so the caller
 * needs the right to publish there; otherwise a private queue would be a way to publish anywhere.
 */
function declare(part: Part, argument: string, keyArgument: string | undefined): Requirement {
  const { description, check } = configure(part)
  return {
    kind: 'rights',
    description: `${description}; with \`${argument}\` also \`read\` on the ${part} and \`write\` on that exchange`,
    check,
    checkBody: (rights, vhost, request) => {
      const args = (request.body as { arguments?: Record<string, unknown> } | undefined)?.arguments
      const target = args?.[argument]
      if (target === undefined) return true
      const key = keyArgument === undefined ? undefined : args?.[keyArgument]
      if (!rights.allows('read', vhost, named(request, part))) return false
      // RabbitMQ refuses a value that is not a string; until then it could name anything.
      const isText = typeof target === 'string' && (key === undefined || typeof key === 'string')
      return isText ? rights.publishes(vhost, target, key) : rights.publishes(vhost, '*', undefined)
    },
  }
}

/** The dead-letter queue that `dead_letter` declares with a queue. */
export const deadLetterQueue = (queue: string): string => `${queue}.dead`

const withArguments = declare('queue', 'x-dead-letter-exchange', 'x-dead-letter-routing-key')
export const declareQueue: Requirement = {
  ...withArguments,
  description: `${withArguments.description}; with \`dead_letter\` also \`configure\` and \`write\` on \`<queue>.dead\`, and \`read\` on the queue`,
  checkBody: (rights, vhost, request) => {
    if (!withArguments.checkBody!(rights, vhost, request)) return false
    if ((request.body as { dead_letter?: boolean } | undefined)?.dead_letter !== true) return true
    const queue = named(request, 'queue')
    const dead = deadLetterQueue(queue)
    return rights.allows('configure', vhost, dead) && rights.allows('read', vhost, queue) && rights.publishes(vhost, '', dead)
  },
}
export const declareExchange = declare('exchange', 'alternate-exchange', undefined)

/** Redriving: destinations that are only known once a message is read are checked then. */
export const redrive: Requirement = {
  ...read('queue'),
  description: '`read` on the queue, and `write` on the destination of each message',
  checkBody: (rights, vhost, request) => {
    const { to } = (request.body ?? {}) as { to?: string | { queue?: string; exchange?: string; routing_key?: string } }
    if (to === undefined) return true
    if (typeof to === 'string') return rights.publishes(vhost, '', to)
    if (to.queue !== undefined) return rights.publishes(vhost, '', to.queue)
    const exchange = to.exchange ?? ''
    if (to.routing_key !== undefined) return rights.publishes(vhost, exchange, to.routing_key)
    return exchange === DEFAULT_EXCHANGE || rights.allows('write', vhost, exchange)
  },
}

/** `read` on the queue of each redrive: checked when the redrive is looked up. */
export const readOfRedrive: Requirement = { kind: 'known', description: "`read` on the redrive's queue", check: yes }
