// The fold of the log: whoever reads it, from wherever it begins by now, has the same.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { AT_RECOVERY, type Change, DefinitionsState, type LogRecord } from '../../src/definitions/state.js'

const put = (key: string, value: unknown, expected?: number): Change => ({
  id: 'p',
  type: 'put',
  kind: 'k',
  key,
  value,
  ...(expected !== undefined && { expected }),
})
const gone = (key: string, expected?: number): Change => ({
  id: 'd',
  type: 'delete',
  kind: 'k',
  key,
  ...(expected !== undefined && { expected }),
})
const read = (log: LogRecord[], from = 0): DefinitionsState => {
  const state = new DefinitionsState()
  for (const [offset, record] of log.entries()) if (offset >= from) state.apply(offset, record, 100)
  return state
}
const told = (state: DefinitionsState) => state.all().sort((a, b) => (a.key < b.key ? -1 : 1))

describe('the state', () => {
  it('has what was put last, and nothing that was deleted', () => {
    const state = read([put('a', 1), put('b', 2), put('a', 3), gone('b')])
    assert.deepEqual(told(state), [{ kind: 'k', key: 'a', value: 3, revision: 3 }])
    assert.equal(state.get('k', 'b'), undefined)
  })

  it('takes a change that expects a revision only while that is the one', () => {
    const state = new DefinitionsState()
    assert.equal(state.apply(0, put('a', 'first', 0), 1), true)
    assert.equal(state.apply(1, put('a', 'late', 0), 1), false)
    assert.equal(state.apply(2, put('a', 'second', 1), 1), true)
    assert.equal(state.apply(3, gone('a', 1), 1), false)
    assert.equal(state.apply(4, gone('a', 3), 1), true)
    assert.equal(state.apply(5, gone('a'), 1), false)
    assert.deepEqual(state.all(), [])
  })

  it('is about as large as what is in it', () => {
    const state = read([put('a', 'x'.repeat(1000)), put('b', 1), put('a', 'y')])
    assert.ok(state.size < 200, `${state.size}`)
    assert.equal(read([put('a', 1), gone('a')]).size, 0)
  })

  it('hears the last word of each instance, and forgets them with the log', () => {
    const say = (instance: string, value: number): LogRecord => ({ id: 's', type: 'say', instance, topic: 't', value })
    const state = read([say('one', 1), say('two', 2), say('one', 3)])
    assert.deepEqual(
      state.lastBroadcasts('t').map(({ instance, value }) => [instance, value]),
      [
        ['two', 2],
        ['one', 3],
      ],
    )
    assert.deepEqual(state.all(), [])
  })

  it('has what was remembered when the log was lost, and what was put before that was read', () => {
    const entries = [{ kind: 'k', key: 'a', value: 'old', revision: 70 }]
    const state = read([put('b', 1), { id: 'm', type: 'snapshot', at: AT_RECOVERY, entries }, put('a', 'new', 70)])
    assert.deepEqual(
      told(state).map(({ key, value }) => [key, value]),
      [
        ['a', 'new'],
        ['b', 1],
      ],
    )
  })

  it('is the same for whoever reads from the beginning and for whoever comes after that was dropped', () => {
    const key = fc.constantFrom('a', 'b', 'c')
    const expected = fc.option(fc.integer({ min: 0, max: 30 }), { nil: undefined })
    const change = fc.oneof(
      fc.tuple(key, fc.integer(), expected).map(([key, value, expected]) => put(key, value, expected)),
      fc.tuple(key, expected).map(([key, expected]) => gone(key, expected)),
    )
    fc.assert(
      fc.property(
        fc.array(change, { minLength: 3, maxLength: 30 }),
        fc.nat(29),
        fc.nat(10),
        fc.nat(29),
        (changes, at, delay, dropped) => {
          // A snapshot is written a little after the state that it has: others write in between.
          const taken = Math.min(at, changes.length - 2)
          const stands = Math.min(taken + 1 + delay, changes.length)
          const entries = read(changes.slice(0, taken + 1)).all()
          const log: LogRecord[] = changes.slice(0, stands)
          log.push({ id: 'n', type: 'snapshot', at: taken, entries }, ...changes.slice(stands))
          const from = Math.min(dropped, taken + 1)
          assert.deepEqual(told(read(log, from)), told(read(log)))
        },
      ),
    )
  })
})
