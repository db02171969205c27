// AMQP's reply codes and amqplib's errors, as problems. The only place that reads the broker's words.

import { Problem } from '../../problems.js'
import type { HandshakeError } from './amqplib.js'
import type { Properties, PublishMessage } from './message.js'

interface BrokerError extends Error {
  code?: number | string
}

/** Why there is no connection, or no longer one. */
export interface ConnectionFailure {
  /** For people, on one line; RabbitMQ's own words if it said something. */
  reason: string
  /** What RabbitMQ does not know or let in, now or later. Undefined for everything that may pass, such as a limit. */
  refused?: 'credentials' | 'vhost'
  /** Whether RabbitMQ closed the connection, rather than being unreachable. */
  isClosedByBroker: boolean
}

/** What is between the quotation marks of amqplib's message, without the reply code: `no queue 'x' in vhost '/'`. */
function brokerText(error: Error): string {
  const quoted = /with message "(?:[A-Z_]+ - )?([\s\S]*)"$/.exec(error.message)
  return quoted ? quoted[1]! : error.message
}

const OTHER_PROPERTIES =
  'It exists with other properties, which cannot be changed: delete it first, with its messages, or choose another name.'

/**
 * The problem behind a failed call to the broker.
 * @param missing what a 404 means where the broker's text doesn't say
 */
export function brokerProblem(error: unknown, missing: 'queue_not_found' | 'exchange_not_found' = 'queue_not_found'): Problem {
  if (error instanceof Problem) return error
  if (!(error instanceof Error)) return new Problem('internal_error', 'Something that is no error was thrown.', { cause: error })
  const text = brokerText(error)
  const options = { cause: error }
  switch ((error as BrokerError).code) {
    case 404:
      if (/^no exchange /.test(text)) return new Problem('exchange_not_found', `There is ${text}.`, options)
      if (/^no queue /.test(text)) return new Problem('queue_not_found', `There is ${text}.`, options)
      return new Problem(missing, text, options)
    case 403:
      if (/exclusive use/.test(text)) return new Problem('resource_locked', `${capital(text)}.`, options)
      return new Problem('access_refused', `${capital(text)}.`, options)
    case 405:
      return new Problem('resource_locked', `${capital(text.split('.')[0]!)}.`, options)
    case 406:
      if (/limit .*is reached$/.test(text)) return new Problem('broker_unavailable', `${capital(text)}.`, options)
      if (/rabbit_stream_queue/.test(text)) return streamQueueProblem(options)
      // Its consumer timeout: what the channel held goes back, and nobody asked for anything wrong.
      if (/^delivery acknowledgement .*timed out/i.test(text))
        return new Problem('broker_unavailable', 'RabbitMQ closed the channel after its consumer timeout.', options)
      if (/^inequivalent arg/.test(text))
        return new Problem('precondition_failed', `${capital(text)}. ${OTHER_PROPERTIES}`, options)
      if (/in use|not empty/.test(text)) return new Problem('precondition_failed', `${capital(text)}.`, options)
      return new Problem('invalid_request', `${capital(text)}.`, options)
    case 503:
    case 540:
      return new Problem('invalid_request', `${capital(text)}.`, options)
    case 541:
      return new Problem('invalid_request', `RabbitMQ failed over this request: ${endSentence(onOneLine(text))}`, options)
    case 320:
    case 530:
      return new Problem('broker_unavailable', `RabbitMQ closed the connection: ${endSentence(text)}`, options)
  }
  if (/^No channels left/.test(error.message)) return channelsUsedUp(options)
  if (isConnectionLoss(error)) return new Problem('broker_unavailable', 'The connection to RabbitMQ was lost.', options)
  return new Problem('internal_error', 'RabbitMQ answered something unexpected.', options)
}

type Unrouted = Pick<PublishMessage, 'exchange' | 'routingKey'> & { properties?: Properties }

/** With a plugin, queues and exchanges refuse a message whose value of this header they have had. */
export const DEDUPLICATION_HEADER = 'x-deduplication-header'

/** The problem of a message that no queue took, although it was published with `mandatory`. */
export function unroutedProblem({ exchange, routingKey, properties }: Unrouted, vhost: string): Problem {
  const other = properties?.headers?.[DEDUPLICATION_HEADER] === undefined ? '' : ', or the exchange has refused it as a duplicate'
  return exchange === ''
    ? new Problem('queue_not_found', `There is no queue '${routingKey}' in vhost '${vhost}'. The message was not stored.`)
    : new Problem(
        'unroutable',
        `No queue is bound to exchange '${exchange}' for the routing key '${routingKey}'${other}. The message was not stored.`,
      )
}

/** The problem of a request that would need one channel more than RabbitMQ allows. */
export function channelsUsedUp(options: { cause?: unknown } = {}): Problem {
  return new Problem('too_many_waiters', 'All channels that RabbitMQ allows are in use. Try again later.', options)
}

/** The problem of a receive, or a purge, from a RabbitMQ stream. */
export function streamQueueProblem(options: { cause?: unknown } = {}): Problem {
  return new Problem(
    'stream_queue',
    'The queue is a RabbitMQ stream. Read it by offset, with GET /queues/{queue}/stream?offset=first: messages are not taken from it.',
    options,
  )
}

/** What RabbitMQ says as it ends a connection because its user, or the node, has all channels that it may have. */
const CHANNELS_USED_UP = /^number of channels opened (?:for user|on node) [\s\S]*?(?:limit of \(?(\d+)\)?|\.\.\.)$/

/** The limit if a connection ended over a channel too many, Infinity if RabbitMQ's text was cut; undefined for other errors. */
export function channelLimit(error: Error): number | undefined {
  const match = CHANNELS_USED_UP.exec(brokerText(error))
  return match ? Number(match[1] ?? Number.POSITIVE_INFINITY) : undefined
}

/** What the end of a connection, or of an attempt to open one, means. */
export function connectionFailure(error: Error): ConnectionFailure {
  const { code } = error as BrokerError
  if (typeof code !== 'number') {
    const reason = code === 'ECONNREFUSED' ? 'connection refused' : onOneLine(error.message)
    return { reason, isClosedByBroker: false }
  }
  const isAuthenticated = (error as Partial<HandshakeError>).isAuthenticated
  if (code === 403 && isAuthenticated === false)
    return { reason: 'the broker refused the credentials', refused: 'credentials', isClosedByBroker: true }
  const reason = onOneLine(brokerText(error))
  return code === 530 && isAuthenticated && isVhostRefusal(reason)
    ? { reason, refused: 'vhost', isClosedByBroker: true }
    : { reason, isClosedByBroker: true }
}

/**
 * Whether RabbitMQ says that there is no such vhost, or that the user has no permission in it. With anything after the name of
 * the user (a limit, a vhost that is down) the refusal passes. RabbitMQ ends a long text with dots.
 */
function isVhostRefusal(text: string): boolean {
  return /^vhost [\s\S]+( not found|\.\.\.)$/.test(text) || /^access to vhost '[\s\S]*' refused for user '[\s\S]*'$/.test(text)
}

/** Whether the call failed because its channel or connection went away, whatever the reason. */
function isConnectionLoss(error: Error): boolean {
  return (
    error.name === 'IllegalOperationError' ||
    /^(Channel (closed|closing|ended)|channel closed|Connection clos|Socket|Heartbeat timeout|Unexpected close|read E|write E)/i.test(
      error.message,
    ) ||
    /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|ENOTFOUND|EAI_AGAIN)/.test(String((error as BrokerError).code ?? ''))
  )
}

const onOneLine = (text: string): string => text.replaceAll(/\s*\n\s*/g, ' ')
const endSentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`)

/** Whether RabbitMQ says that the queue does not exist, rather than that its node is down. */
export const isQueueMissing = (error: unknown): boolean =>
  error instanceof Error && (error as BrokerError).code === 404 && /^no queue /.test(brokerText(error))

/** The `code` of the error with which the gateway itself ends a connection. */
export const GIVEN_UP = 'GIVEN_UP'

/** AMQP's reply code of a connection that an operator ended, or the shutdown of a node. */
const CONNECTION_FORCED = 320

/**
 * Whether a connection ended over what it carried: RabbitMQ failed over a message or a request (541 and other reply codes), or
 * amqplib could not read what came. Otherwise the network, an operator, a limit or the gateway itself ended it.
 */
export function endedByContent(error: Error): boolean {
  const { code } = error as BrokerError
  if (channelLimit(error) !== undefined) return false
  if (code !== undefined) return typeof code === 'number' && code !== CONNECTION_FORCED
  return !/^(Unexpected close|Heartbeat timeout|closed by the broker)/i.test(error.message)
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
