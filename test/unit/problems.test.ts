// The catalogue of problems: its page in the docs, what the gateway derives from it, and the body of a problem.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { catalogue, isRetryable, type ProblemCode } from '../../openapi/problems.js'
import { dueFailure } from '../../src/delay/delays.js'
import { invalidRequest, Problem } from '../../src/problems.js'
import { batchStatusOf } from '../../src/publish/batch.js'
import { endsRedrive } from '../../src/redrive/runner.js'
import { postponesMove } from '../../src/redrive/sweep.js'

const codes = Object.keys(catalogue) as ProblemCode[]

describe('the catalogue of problems', () => {
  it('the catalogue has the same codes as docs/problems.md', () => {
    const page = readFileSync('docs/problems.md', 'utf8')
    const explained = [...page.matchAll(/^## `?(\w+)`?$/gm)].map(([, code]) => code!)
    assert.deepEqual(
      explained.filter((code, index) => explained.indexOf(code) !== index),
      [],
    )
    assert.deepEqual([...explained].sort(), [...codes].sort())
  })

  it('the catalogue agrees with docs/problems.md about status and retryable', () => {
    const page = readFileSync('docs/problems.md', 'utf8')
    const said = [...page.matchAll(/^## `?(\w+)`?\n\nStatus (\d+)\. (Retryable|Not retryable)\. /gm)]
    assert.deepEqual(
      said.map(([, code, status, retryable]) => [code, Number(status), retryable === 'Retryable']),
      codes.map((code) => [code, catalogue[code].status, isRetryable(code)]),
    )
  })

  it('the catalogue has snake_case codes, an error status and a title without a final period', () => {
    for (const code of codes) {
      const { status, title } = catalogue[code]
      assert.match(code, /^[a-z]+(_[a-z]+)*$/)
      assert.ok(status >= 400 && status <= 504, code)
      assert.match(title, /^[A-Z][\w ,-]{5,}$/, code)
    }
  })

  it('the catalogue has a retry-after for every 429 and 503, and for no other status below 500', () => {
    for (const code of codes) {
      const { status, retryAfter } = catalogue[code]
      if (status === 429 || status === 503) assert.ok(retryAfter! > 0, code)
      else if (status < 500) assert.equal(retryAfter, undefined, code)
    }
  })
})

/** The codes for which a function has this result, in the order of the catalogue. */
const codesWith = <T>(read: (code: ProblemCode) => T, result: T) => codes.filter((code) => read(code) === result)

describe('what the gateway derives from the catalogue', () => {
  it('a message of a batch is invalid only if the message itself is at fault', () => {
    assert.deepEqual(codesWith(batchStatusOf, 'invalid'), ['invalid_message', 'message_too_large'])
  })

  it('the status of a batch message is unknown only if nobody knows whether it was stored', () => {
    const ofPublish = codesWith(batchStatusOf, 'unknown').filter((code) => !/^(settle|rpc)_/.test(code))
    assert.deepEqual(ofPublish, ['internal_error', 'publish_outcome_unknown'])
  })

  it('a command of a bulk settle is gone, in conflict or refused by its code, and otherwise unknown', () => {
    const withLease = codes.flatMap((code) => (catalogue[code].lease ? [[code, catalogue[code].lease]] : []))
    assert.deepEqual(withLease, [
      ['access_refused', 'refused'],
      ['lease_not_found', 'gone'],
      ['already_settled', 'conflict'],
      ['max_lease_exceeded', 'conflict'],
      ['lease_gone', 'gone'],
    ])
  })

  it('a redrive fails with what no other sweep makes good, and goes on after a temporary problem', () => {
    const fatal: ProblemCode[] = [
      'invalid_request',
      'access_refused',
      'queue_not_found',
      'vhost_not_found',
      'resource_locked',
      'stream_queue',
      'internal_error',
      'overloaded',
    ]
    for (const code of fatal) assert.equal(endsRedrive(code), true, code)
    assert.deepEqual(codesWith(endsRedrive, false), [
      'rate_limited',
      'too_many_leases',
      'too_many_waiters',
      'broker_unavailable',
      'broker_blocked',
      'publish_rejected',
      'settle_outcome_unknown',
      'lease_unreachable',
      'queue_quarantined',
      'authority_unavailable',
      'shutting_down',
      'publish_outcome_unknown',
      'broker_timeout',
    ])
  })

  it('a sweep tries a move again if the message is not stored and every target would refuse it', () => {
    const ofPublish: ProblemCode[] = ['broker_unavailable', 'broker_blocked', 'overloaded', 'broker_timeout']
    // A publish never fails with these.
    const others: ProblemCode[] = ['too_many_leases', 'too_many_waiters', 'authority_unavailable', 'shutting_down']
    assert.deepEqual(codesWith(postponesMove, true).sort(), [...ofPublish, ...others].sort())
  })

  it('a due message is undeliverable if it or its target is permanently at fault', () => {
    // A missing queue is no failure of a publish: the message is returned.
    const returned: ProblemCode[] = ['queue_not_found', 'unroutable']
    assert.deepEqual(
      codesWith(dueFailure, 'undeliverable').filter((code) => !returned.includes(code)),
      ['invalid_message', 'access_refused', 'exchange_not_found', 'vhost_not_found', 'message_too_large', 'publish_refused'],
    )
  })

  it('a due message is postponed if its target does not take it at the moment', () => {
    const postponed = codesWith(dueFailure, 'postponed').filter((code) => code !== 'queue_quarantined')
    assert.deepEqual(postponed, ['publish_rejected'])
  })
})

describe('the body of a problem', () => {
  it('the body of a problem has every member of RFC 9457 and those of the gateway', () => {
    const body = new Problem('broker_blocked', 'why').body('/queues/q', 'id')
    assert.deepEqual(body, {
      type: '/problems#broker_blocked',
      title: catalogue.broker_blocked.title,
      status: 503,
      detail: 'why',
      instance: '/queues/q',
      code: 'broker_blocked',
      request_id: 'id',
      retryable: true,
    })
  })

  it('the body of a problem lists at most 20 errors', () => {
    const errors = Array.from({ length: 30 }, (_, i) => ({ pointer: `/body/${i}`, detail: 'is wrong' }))
    const { errors: listed } = new Problem('invalid_request', 'x', { errors }).body('/', 'id') as { errors: object[] }
    assert.deepEqual(listed, errors.slice(0, 20))
    assert.deepEqual(invalidRequest('/query/max', 'is wrong').options.errors, [{ pointer: '/query/max', detail: 'is wrong' }])
  })

  it('the body of a problem does not contain the cause of the problem', () => {
    const problem = new Problem('internal_error', 'x', { cause: new Error('secret') })
    assert.doesNotMatch(JSON.stringify(problem.body('/', 'id')), /secret/)
    assert.equal((problem.cause as Error).message, 'secret')
  })
})
