// RabbitMQ's words as problems: what is nobody's fault is called so.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerProblem } from '../../src/amqp/wire/errors.js'

/** As amqplib has them of a channel that RabbitMQ closes. */
const closed = (code: number, name: string, text: string): Error =>
  Object.assign(new Error(`Channel closed by server: ${code} (${name}) with message "${name} - ${text}"`), { code })

describe('a channel that RabbitMQ closed', () => {
  for (const [what, error, code] of [
    ['over a bad argument is the client’s mistake', closed(406, 'PRECONDITION_FAILED', 'invalid arg x'), 'invalid_request'],
    [
      'over another declaration is a conflict',
      closed(406, 'PRECONDITION_FAILED', "inequivalent arg 'durable' for queue 'q'"),
      'precondition_failed',
    ],
    [
      'over its consumer timeout is nobody’s mistake',
      closed(406, 'PRECONDITION_FAILED', 'delivery acknowledgement on channel 13 timed out. Timeout value used: 6000 ms. This'),
      'broker_unavailable',
    ],
    ['over a missing queue says so', closed(404, 'NOT_FOUND', "no queue 'q' in vhost '/'"), 'queue_not_found'],
  ] as const) {
    it(what, () => assert.equal(brokerProblem(error).code, code))
  }
})
