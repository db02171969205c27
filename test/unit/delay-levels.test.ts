// The levels that delayed messages pass through.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LEVELS, levelPath, levelTime, MAX_DELAY_MS, MIN_DELAY_MS, patternsOf } from '../../src/delay/levels.js'

/** Matches as a topic exchange does: https://www.rabbitmq.com/tutorials/tutorial-five-javascript */
function matches(pattern: string, key: string): boolean {
  const source = pattern.split('.').map((word) => (word === '*' ? '[^.]+' : word === '#' ? '.*' : word))
  return new RegExp(`^${source.join('[.]')}$`).test(key)
}

/** Follows a message through the bindings, and sums up the times of the levels at which it waits. */
function walk(delay: number): { total: number; stops: number } {
  const { top, routingKey } = levelPath(delay)
  let [total, stops] = [0, 0]
  for (let level = top; level >= 0; level--) {
    const { stay, pass } = patternsOf(level)
    const stays = matches(stay, routingKey)
    assert.notEqual(stays, matches(pass, routingKey), `${delay} ms at level ${level}`)
    if (stays) {
      total += levelTime(level)
      stops++
    }
  }
  return { total, stops }
}

describe('path of a delay through the levels', () => {
  it('a path is never shorter than its delay, at most 100 ms or 1/128 longer, and has at most eight stops', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: MIN_DELAY_MS, max: 60_000 }), fc.integer({ min: MIN_DELAY_MS, max: MAX_DELAY_MS })),
        (delay) => {
          const { total, stops } = walk(delay)
          assert.ok(total >= delay, `${total}`)
          assert.ok(total - delay <= Math.max(100, delay / 128), `${total}`)
          assert.ok(stops <= 8)
        },
      ),
      { numRuns: 2000 },
    )
    for (const delay of [MIN_DELAY_MS, 101, 25_500, 25_501, MAX_DELAY_MS]) assert.ok(walk(delay).total >= delay)
  })

  it('a path begins at an existing level', () => {
    for (const delay of [MIN_DELAY_MS, MAX_DELAY_MS]) assert.ok(levelPath(delay).top < LEVELS)
    assert.equal(levelPath(MAX_DELAY_MS).routingKey.split('.').length, LEVELS)
  })
})
