// A message as it is POSTed: in the form that the subscription asks for, with its lease, and signed.

import type { Delivery } from '../amqp/consume/delivery.js'
import type { Lease } from '../leases/table.js'
import { eventOf, STRUCTURED } from '../messages/cloudevents-json.js'
import { messageToJson } from '../messages/json.js'
import { TRACE, writeProperties } from '../messages/raw.js'
import { signatureHeaders } from './signature.js'
import type { Subscription } from './subscription.js'

export interface DeliveryRequest {
  headers: Record<string, string>
  body: Buffer
}

const USER_AGENT = 'rabbitmq-http-gateway'

/**
 * @param id as webhookId() made it, the same at every attempt
 * @param base where the endpoint reaches the gateway, as far as that is known
 * @throws Problem not_acceptable where its headers are too much for HTTP in the raw form
 */
export function deliveryRequest(
  delivery: Delivery,
  lease: Lease,
  subscription: Subscription,
  id: string,
  base: string,
): DeliveryRequest {
  const { headers, body } = contentOf(delivery, lease, subscription, id)
  const count = delivery.deliveryCount
  return signRequest(subscription, id, body, {
    ...headers,
    ...(count !== undefined && { 'amqp-delivery-count': String(count) }),
    'lease-id': lease.id,
    'lease-expires': new Date(lease.expiresAt).toISOString(),
    location: `${base}/leases/${lease.id}`,
  })
}

/** A delivery that stands for no message, to try an endpoint with. */
export function testRequest(name: string, subscription: Subscription, id: string): DeliveryRequest {
  const json = { test: true, subscription: name, queue: subscription.queue, time: new Date().toISOString() }
  const headers = { 'content-type': 'application/json', 'amqp-type': 'gateway.test', 'amqp-message-id': id }
  return signRequest(subscription, id, Buffer.from(JSON.stringify(json)), headers)
}

function contentOf(delivery: Delivery, lease: Lease, { format }: Subscription, id: string): DeliveryRequest {
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

function signRequest(
  { headers: own, secrets }: Subscription,
  id: string,
  body: Buffer,
  headers: Record<string, string>,
): DeliveryRequest {
  return { headers: { 'user-agent': USER_AGENT, ...own, ...headers, ...signatureHeaders(secrets, id, Date.now(), body) }, body }
}
