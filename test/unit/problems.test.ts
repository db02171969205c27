// The problem catalogue and its documentation agree.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { catalogue, invalidRequest, Problem, type ProblemCode } from '../../src/problems.js'

const codes = Object.keys(catalogue) as ProblemCode[]

describe('problem catalogue', () => {
  it('docs/problems.md explains every code of the catalogue and no other', () => {
    const page = readFileSync('docs/problems.md', 'utf8')
    const explained = [...page.matchAll(/^## `?(\w+)`?$/gm)].map(([, code]) => code!)
    assert.deepEqual(
      explained.filter((code, index) => explained.indexOf(code) !== index),
      [],
    )
    assert.deepEqual([...explained].sort(), [...codes].sort())
  })

  it('every problem has a snake_case code, an error status and a title', () => {
    for (const code of codes) {
      const { status, title } = catalogue[code]
      assert.match(code, /^[a-z]+(_[a-z]+)*$/)
      assert.ok(status >= 400 && status <= 504, code)
      assert.ok(title.length > 5, code)
    }
  })

  it('every 429 and 503 has a retry-after, and no other 4xx has one', () => {
    for (const code of codes) {
      const { status, retryAfter } = catalogue[code]
      if (status === 429 || status === 503) assert.ok(retryAfter! > 0, code)
      else if (status < 500) assert.equal(retryAfter, undefined, code)
    }
  })
})

describe('problem response', () => {
  it('a problem has every member of RFC 9457 and the gateway’s own', () => {
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

  it('a problem lists at most twenty errors', () => {
    const errors = Array.from({ length: 30 }, (_, i) => ({ pointer: `/body/${i}`, detail: 'is wrong' }))
    const { errors: listed } = new Problem('invalid_request', 'x', { errors }).body('/', 'id') as { errors: object[] }
    assert.deepEqual(listed, errors.slice(0, 20))
    assert.deepEqual(invalidRequest('/query/max', 'is wrong').options.errors, [{ pointer: '/query/max', detail: 'is wrong' }])
  })

  it('a problem does not show its cause', () => {
    const problem = new Problem('internal_error', 'x', { cause: new Error('secret') })
    assert.doesNotMatch(JSON.stringify(problem.body('/', 'id')), /secret/)
    assert.equal((problem.cause as Error).message, 'secret')
  })
})
