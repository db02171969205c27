// What somebody's message has to be, wherever it comes from, and what the gateway puts on it for him.

import type { PublishMessage } from '../amqp/wire/message.js'
import { isReserved } from '../amqp/wire/reserved.js'
import { Problem } from '../problems.js'
import type { Identity } from './identity.js'

/**
 * Lets a message through that its author may publish, with his headers on it.
 * @throws Problem access_refused
 */
export function admit(
  { rights, headers }: Pick<Identity, 'rights' | 'headers'>,
  vhost: string,
  { exchange, routingKey, properties }: PublishMessage,
): void {
  const keys = [routingKey]
  // RabbitMQ takes them for more routing keys, and so a queue for every queue of the vhost.
  for (const name of ['CC', 'BCC']) {
    const more = properties.headers?.[name]
    if (Array.isArray(more)) keys.push(...more.map(String))
  }
  // To any exchange: a dead letter goes by the key that it was published with.
  if (keys.some(isReserved)) throw new Problem('access_refused', "That queue is the gateway's own.")
  if (!keys.every((key) => rights.publishes(vhost, exchange, key))) {
    throw new Problem(
      'access_refused',
      `This wants \`write\` on the ${exchange === '' ? 'queue' : 'exchange'}, for each of the message's routing keys.`,
    )
  }
  if (headers) properties.headers = stamped(properties.headers, headers)
}

type Headers = NonNullable<PublishMessage['properties']['headers']>

/** What the author says in these names himself goes, however he spells them: some who read it see no difference. */
function stamped(own: Headers | undefined, headers: Readonly<Record<string, string>>): Headers {
  const names = Object.keys(headers).map(folded)
  const all: Headers = Object.create(null)
  for (const name in own) if (!names.includes(folded(name))) all[name] = own[name]!
  return Object.assign(all, headers)
}

/**
 * HTTP knows no case, and what comes as HTTP headers to programs by CGI's rules no difference between `-` and `_`; an event's
 * attributes have three prefixes.
 */
const folded = (name: string): string =>
  name
    .toLowerCase()
    .replaceAll('_', '-')
    .replace(/^cloudevents[:-]/, 'ce-')
