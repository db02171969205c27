// A message as it is POSTed: in the form that the subscription asks for, with its lease, and signed.

import type { Delivery } from '../amqp/consume/delivery.js'
import type { Lease } from '../leases/table.js'
import { timestamp, wallTime } from '../lib/clock.js'
import { unreachable } from '../lib/unreachable.js'
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
 * The signed request that delivers a message under its lease.
 * @param id from `webhookId()`, the same at every attempt
 * @param base the address at which the endpoint reaches the gateway; empty if it is not configured
 * @throws UnfitForHttp if the format is raw and HTTP headers cannot carry the properties
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
    'lease-expires': timestamp(lease.expiresAt),
    location: `${base}/leases/${lease.id}`,
  })
}

/** A signed request without a message, to test an endpoint. */
export function testRequest(name: string, subscription: Subscription, id: string): DeliveryRequest {
  const json = { test: true, subscription: name, queue: subscription.queue, time: timestamp() }
  const headers = { 'content-type': 'application/json', 'amqp-type': 'gateway.test', 'amqp-message-id': id }
  return signRequest(subscription, id, Buffer.from(JSON.stringify(json)), headers)
}

function contentOf(delivery: Delivery, lease: Lease, { format }: Subscription, id: string): DeliveryRequest {
  const { vhost, queue } = lease
  switch (format) {
    case 'raw':
      return { headers: writeProperties(delivery), body: delivery.body }
    case 'json': {
      const body = Buffer.from(messageToJson(delivery, 'auto', lease))
      return { headers: { 'content-type': 'application/json', ...traceOf(delivery) }, body }
    }
    case 'cloudevents': {
      const body = eventOf(delivery, { vhost, queue, id })
      return { headers: { 'content-type': STRUCTURED, ...traceOf(delivery) }, body }
    }
    default:
      return unreachable(format)
  }
}

/** The trace context. `writeProperties()` has written it already in the raw form. */
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
  return { headers: { 'user-agent': USER_AGENT, ...own, ...headers, ...signatureHeaders(secrets, id, wallTime(), body) }, body }
}
