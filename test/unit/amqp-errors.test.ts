// The problems that a gateway makes of RabbitMQ's channel errors.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerProblem } from '../../src/amqp/wire/errors.js'

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
