// The waits between attempts.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { waitAfter } from '../../src/lib/backoff.js'

describe('backoff', () => {
  it('a wait grows by the factor up to the maximum', () => {
    const backoff = { initial: 1000, factor: 2, max: 6000, jitter: 0 }
    assert.deepEqual(
      [1, 2, 3, 4, 50, 10_000].map((attempts) => waitAfter(attempts, backoff)),
      [1000, 2000, 4000, 6000, 6000, 6000],
    )
  })

  it('a wait varies by the jitter and never exceeds the maximum', () => {
    const backoff = { initial: 1000, factor: 3, max: 9000, jitter: 0.2 }
    assert.equal(waitAfter(1, backoff, 0), 800)
    assert.equal(waitAfter(1, backoff, 1), 1200)
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), (attempts) => {
        const wait = waitAfter(attempts, backoff)
        assert.ok(wait >= 800 && wait <= 9000)
      }),
    )
  })
})
