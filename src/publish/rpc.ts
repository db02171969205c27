// Request and reply over a queue or an exchange.

import { authorizePublish, withStampedHeaders } from '../access/authorize-publish.js'
import type { Identity } from '../access/identity.js'
import type { Vhosts } from '../amqp/vhosts.js'
import { breaksStreams } from '../amqp/wire/crash-guards.js'
import { unroutedProblem } from '../amqp/wire/errors.js'
import type { Properties, ReceivedMessage } from '../amqp/wire/message.js'
import type { Metrics } from '../metrics.js'
import { Problem } from '../problems.js'

const MAX_PENDING_CALLS = 20_000

export interface RpcRequest {
  author: Identity
  vhost: string | undefined
  /** `''`: straight to the queue that the routing key names. */
  exchange: string
  routingKey: string
  properties: Properties & { messageId: string }
  body: Buffer
  /** Milliseconds. */
  timeout: number
}

/**
 * Publishes a request and resolves with its reply, which keeps the client's own correlation id.
 * @throws Problem queue_not_found, unroutable, exchange_not_found, rpc_timeout, broker_blocked, broker_unavailable, overloaded,
 *   access_refused
 */
export async function call(vhosts: Vhosts, metrics: Metrics, request: RpcRequest): Promise<ReceivedMessage> {
  const { exchange, routingKey, body, timeout } = request
  authorizePublish(request.author.rights, request.vhost ?? vhosts.defaultName, request)
  const { properties } = withStampedHeaders(request.author, request)
  const vhost = await vhosts.get(request.vhost, request.author.login)
  await vhost.ensureExchangeExists(exchange)
  if (vhost.rpc.pending >= MAX_PENDING_CALLS)
    throw new Problem('overloaded', `As many calls wait for a reply as may (${MAX_PENDING_CALLS}).`)
  if (properties.headers?.['CC'] || properties.headers?.['BCC']) {
    throw new Problem('invalid_message', 'CC and BCC would bring a call several replies.')
  }
  if (breaksStreams(properties.headers)) throw new Problem('invalid_message', 'A call carries no decimal headers.')
  try {
    const reply = await vhost.rpc.call({ exchange, routingKey, body, properties, timeout })
    metrics.called('replied')
    // On the wire the correlation id was the gateway's.
    return { ...reply, properties: { ...reply.properties, correlationId: properties.correlationId } }
  } catch (error) {
    const problem = error instanceof Problem ? error : undefined
    metrics.called(problem?.code === 'rpc_timeout' ? 'timeout' : 'failed')
    if (problem?.code === 'unroutable') throw unroutedProblem(request, vhost.name)
    throw error
  }
}
