// Publishing on behalf of a caller: the rights that a message needs, and the headers that the gateway sets on it.

import type { PublishMessage } from '../amqp/wire/message.js'
import { isReserved, isReservedKey } from '../amqp/wire/reserved.js'
import { Problem } from '../problems.js'
import type { Identity } from './identity.js'
import type { Rights } from './rights.js'

/**
 * Checks that a message may be published: each of its routing keys, those in the `CC` and `BCC` headers too. Changes nothing.
 * @throws Problem access_refused
 */
export function authorizePublish(
  rights: Rights,
  vhost: string,
  { exchange, routingKey, properties }: Pick<PublishMessage, 'exchange' | 'routingKey' | 'properties'>,
): void {
  const keys = [routingKey]
  // RabbitMQ routes the message by each of these as well; through the default exchange each names a queue of the vhost.
  for (const name of ['CC', 'BCC']) {
    const more = properties.headers?.[name]
    if (Array.isArray(more)) keys.push(...more.map(String))
  }
  if (isReserved(exchange) || keys.some((key) => isReservedKey(exchange, key)))
    throw new Problem('access_refused', 'Queues and exchanges whose names begin with `gateway.` belong to the gateway itself.')
  if (!keys.every((key) => rights.publishes(vhost, exchange, key))) {
    throw new Problem(
      'access_refused',
      `This requires \`write\` on the ${exchange === '' ? 'queue' : 'exchange'}, for each of the message's routing keys.`,
    )
  }
}

/**
 * The message with the headers that the gateway sets for its author. They replace the author's own headers of the same name,
 * whatever the spelling. Gives the message itself if there are none to set.
 */
export function withStampedHeaders<M extends Pick<PublishMessage, 'properties'>>(
  { headers }: Pick<Identity, 'headers'>,
  message: M,
): M {
  if (!headers) return message
  const { properties } = message
  return { ...message, properties: { ...properties, headers: stamped(properties.headers, headers) } }
}

type Headers = NonNullable<PublishMessage['properties']['headers']>

function stamped(own: Headers | undefined, headers: Readonly<Record<string, string>>): Headers {
  const names = Object.keys(headers).map(folded)
  const all: Headers = Object.create(null)
  for (const name in own) if (!names.includes(folded(name))) all[name] = own[name]!
  return Object.assign(all, headers)
}

/**
 * A name as the least exact reader would compare it: HTTP ignores case, web servers that pass headers on by CGI's rules tell only
 * letters and digits apart, and attributes of CloudEvents have three prefixes.
 */
const folded = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '-')
    .replace(/^cloudevents-/, 'ce-')
