// The problems that a gateway makes of RabbitMQ's channel errors.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerProblem, channelLimit, connectionFailure } from '../../src/amqp/wire/errors.js'

/** The error that amqplib emits if RabbitMQ closes a channel. */
const closed = (code: number, name: string, text: string): Error =>
  Object.assign(new Error(`Channel closed by server: ${code} (${name}) with message "${name} - ${text}"`), { code })

describe('problem of a closed channel', () => {
  for (const [what, error, code] of [
    [
      'a channel closed over a bad argument is an invalid request',
      closed(406, 'PRECONDITION_FAILED', 'invalid arg x'),
      'invalid_request',
    ],
    [
      'a channel closed over a different declaration is a failed precondition',
      closed(406, 'PRECONDITION_FAILED', "inequivalent arg 'durable' for queue 'q'"),
      'precondition_failed',
    ],
    [
      'a channel closed by the consumer timeout is an unavailable broker',
      closed(406, 'PRECONDITION_FAILED', 'delivery acknowledgement on channel 13 timed out. Timeout value used: 6000 ms. This'),
      'broker_unavailable',
    ],
    [
      'a channel closed over a missing queue is a missing queue',
      closed(404, 'NOT_FOUND', "no queue 'q' in vhost '/'"),
      'queue_not_found',
    ],
  ] as const) {
    it(what, () => assert.equal(brokerProblem(error).code, code))
  }
})

/** The error of a connection that RabbitMQ closed, with its text as 3.10, 4.0 or 4.3 writes it. */
const ended = (code: number, name: string, text: string, isAuthenticated = true): Error =>
  Object.assign(new Error(`Connection closed: ${code} (${name}) with message "${name} - ${text}"`), { code, isAuthenticated })

describe('end of a connection', () => {
  for (const [what, error, refused] of [
    ['a missing vhost is refused for good', ended(530, 'NOT_ALLOWED', 'vhost x not found'), 'vhost'],
    ['a missing vhost with a long name is refused for good', ended(530, 'NOT_ALLOWED', `vhost ${'x'.repeat(230)}...`), 'vhost'],
    [
      'a vhost without permission is refused for good',
      ended(530, 'NOT_ALLOWED', "access to vhost 'x' refused for user 'u'"),
      'vhost',
    ],
    [
      'refused credentials are refused for good',
      ended(403, 'ACCESS_REFUSED', 'Login was refused using authentication mechanism PLAIN.', false),
      'credentials',
    ],
    [
      "a vhost's connection limit passes",
      ended(530, 'NOT_ALLOWED', "access to vhost 'x' refused for user 'u': connection limit (2) is reached"),
      undefined,
    ],
    [
      "a user's connection limit passes",
      ended(530, 'NOT_ALLOWED', "connection refused for user 'u': user connection limit (2) is reached"),
      undefined,
    ],
    [
      "a node's connection limit passes",
      ended(530, 'NOT_ALLOWED', 'connection refused: node connection limit (2) is reached'),
      undefined,
    ],
    [
      'a vhost that is down passes',
      ended(541, 'INTERNAL_ERROR', "access to vhost 'x' refused for user 'u': vhost 'x' is down"),
      undefined,
    ],
    ['a node in maintenance passes', ended(320, 'CONNECTION_FORCED', 'Node was put into maintenance mode'), undefined],
  ] as const) {
    it(what, () => assert.equal(connectionFailure(error).refused, refused))
  }

  it('the lines of a reason are joined', () => {
    const mistakes = new Error('The configuration has a mistake:\n  AMQP_TLS_KEY_FILE cannot be read')
    assert.equal(connectionFailure(mistakes).reason, 'The configuration has a mistake: AMQP_TLS_KEY_FILE cannot be read')
    assert.equal(connectionFailure(ended(530, 'NOT_ALLOWED', 'one\n two')).reason, 'one two')
  })

  it('a limit of channels is read from the text of every version', () => {
    const text = "number of channels opened for user 'u' has reached the maximum allowed user limit of"
    assert.equal(channelLimit(ended(530, 'NOT_ALLOWED', `${text} (12)`)), 12)
    assert.equal(channelLimit(ended(530, 'NOT_ALLOWED', `${text} 12`)), 12)
    assert.equal(channelLimit(ended(530, 'NOT_ALLOWED', `number of channels opened for user '${'u'.repeat(200)}...`)), Infinity)
    assert.equal(channelLimit(ended(530, 'NOT_ALLOWED', 'attempt to reuse consumer tag')), undefined)
  })
})
