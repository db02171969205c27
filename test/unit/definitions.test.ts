// The state of the definitions log: every reader has the same, from wherever the log begins.

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

describe('state of the definitions log', () => {
  it('the state has the last value of each key and no deleted key', () => {
    const state = read([put('a', 1), put('b', 2), put('a', 3), gone('b')])
    assert.deepEqual(told(state), [{ kind: 'k', key: 'a', value: 3, revision: 3 }])
    assert.equal(state.get('k', 'b'), undefined)
  })

  it('a change with an expected revision applies only at that revision', () => {
    const state = new DefinitionsState()
    assert.equal(state.apply(0, put('a', 'first', 0), 1), true)
    assert.equal(state.apply(1, put('a', 'late', 0), 1), false)
    assert.equal(state.apply(2, put('a', 'second', 1), 1), true)
    assert.equal(state.apply(3, gone('a', 1), 1), false)
    assert.equal(state.apply(4, gone('a', 3), 1), true)
    assert.equal(state.apply(5, gone('a'), 1), false)
    assert.deepEqual(state.all(), [])
  })

  it('the size of the state follows its content', () => {
    const state = read([put('a', 'x'.repeat(1000)), put('b', 1), put('a', 'y')])
    assert.ok(state.size < 200, `${state.size}`)
    assert.equal(read([put('a', 1), gone('a')]).size, 0)
  })

  it('the state has the last broadcast of each instance and does not keep them as entries', () => {
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

  it('a snapshot after a lost log adds to the entries that were put before it', () => {
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

  it('a reader of the whole log and a reader that starts at a snapshot have the same state', () => {
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
          // A snapshot is written some time after its state was taken: other instances write in between.
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
