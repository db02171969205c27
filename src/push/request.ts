// A message as it is POSTed: in the form that the subscription asks for, with its lease, and signed.

import type { Delivery } from '../amqp/consume/delivery.js'
import type { Lease } from '../leases/table.js'
import { messageToJson } from '../messages/json.js'
import { TRACE, writeProperties } from '../messages/raw.js'
import type { Subscription } from './subscription.js'
import { eventOf, STRUCTURED } from '../messages/cloudevents-json.js'
import { signed } from './signature.js'

export interface Form {
  headers: Record<string, string>
  body: Buffer
}

const AGENT = 'rabbitmq-http-gateway'

/**
 * @param id as webhookId() made it, the same at every attempt
 * @param base where the endpoint reaches the gateway, as far as that is known
 * @throws Problem not_acceptable where its headers are too much for HTTP in the raw form
 */
export function formOf(delivery: Delivery, lease: Lease, subscription: Subscription, id: string, base: string): Form {
  const { headers, body } = contentOf(delivery, lease, subscription, id)
  const count = delivery.deliveryCount
  return finished(subscription, id, body, {
    ...headers,
    ...(count !== undefined && { 'amqp-delivery-count': String(count) }),
    'lease-id': lease.id,
    'lease-expires': new Date(lease.expiresAt).toISOString(),
    location: `${base}/leases/${lease.id}`,
  })
}

/** A delivery that stands for no message, to try an endpoint with. */
export function sampleOf(name: string, subscription: Subscription, id: string): Form {
  const json = { test: true, subscription: name, queue: subscription.queue, time: new Date().toISOString() }
  const headers = { 'content-type': 'application/json', 'amqp-type': 'gateway.test', 'amqp-message-id': id }
  return finished(subscription, id, Buffer.from(JSON.stringify(json)), headers)
}

function contentOf(delivery: Delivery, lease: Lease, { format }: Subscription, id: string): Form {
  if (format === 'raw') return { headers: writeProperties(delivery), body: delivery.body }
  const { vhost, queue } = lease
  const [type, body] =
    format === 'json'
      ? ['application/json', Buffer.from(messageToJson(delivery, 'auto', lease))]
      : [STRUCTURED, eventOf(delivery, { vhost, queue, id })]
  return { headers: { 'content-type': type, ...traceOf(delivery) }, body }
}

/** The raw form has the trace's headers by itself. */
function traceOf({ properties: { headers } }: Delivery): Record<string, string> {
  const trace = TRACE.map((name) => [name, headers?.[name]] as const)
  return Object.fromEntries(
    trace.filter((one): one is [string, string] => typeof one[1] === 'string' && /^[\x20-\x7e]+$/.test(one[1])),
  )
}

function finished({ headers: own, secrets }: Subscription, id: string, body: Buffer, headers: Record<string, string>): Form {
  return { headers: { 'user-agent': AGENT, ...own, ...headers, ...signed(secrets, id, Date.now(), body) }, body }
}
