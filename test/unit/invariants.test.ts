// The checker of the storms sees each way to break a promise, and none where all were kept.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { check, type Remains, table, violations } from '../soak/invariants.js'
import { Journal, type SettleResult, type Verdict } from '../soak/journal.js'

const nothing: Remains = { queued: new Map(), dead: [], leftovers: [] }
const left = (...ids: string[]): Remains => ({ ...nothing, queued: new Map([['q', ids]]) })

/** A journal of one message, `m`, that was confirmed, and what became of it: leases with the time each was asked for. */
function story(
  ...events: ([asked: number] | [lease: string, verdict: Verdict, result: SettleResult, answered: number])[]
): Journal {
  const journal = new Journal()
  journal.publishes.push({ id: 'm', queue: 'q', outcome: 'confirmed', asked: 0 })
  for (const event of events) {
    if (event.length === 1) journal.deliveries.push({ id: 'm', queue: 'q', lease: `l${event[0]}`, asked: event[0] })
    else journal.settles.push({ id: 'm', lease: event[0], verdict: event[1], result: event[2], answered: event[3] })
  }
  return journal
}

const broken = (journal: Journal, remains: Remains = nothing, options = {}) =>
  violations(check(journal, remains, options), 1000).map((line) => line.split(':')[0])

describe('the checker', () => {
  it('finds nothing where every promise was kept', () => {
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5])), [])
    assert.deepEqual(broken(story([1], ['l1', 'requeue', 'done', 5], [6], ['l6', 'ack', 'done', 9])), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'gone', 5]), left('m')), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'unknown', 5])), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'unknown', 5], [7]), left('m')), [])
    assert.deepEqual(broken(story([1], ['l1', 'reject', 'done', 5]), { ...nothing, dead: ['m'] }), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5], ['l1', 'ack', 'done', 6])), [])
    assert.deepEqual(broken(story(), left('m')), [])
  })

  it('sees a message that is lost', () => {
    assert.deepEqual(broken(story()), ['lost'])
    assert.deepEqual(broken(story([1])), ['lost'])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'gone', 5])), ['lost'])
    assert.deepEqual(broken(story([1], ['l1', 'requeue', 'done', 5])), ['lost'])
  })

  it('excuses what was deleted with its queue, and nothing that was published when that was there again', () => {
    for (const [queue, until, expected] of [
      ['q', 0, []],
      ['q', 10, []],
      ['q', -1, ['lost']],
      ['other', 10, ['lost']],
    ] as const) {
      const journal = story([1])
      journal.deletions.push({ queue, until })
      assert.deepEqual(broken(journal), expected)
    }
    const journal = story([1], ['l1', 'ack', 'done', 5], [6])
    journal.deletions.push({ queue: 'q', until: 10 })
    assert.deepEqual(broken(journal), ['cameBack'])
  })

  it('sees a message that comes back after it was settled', () => {
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5], [6])), ['cameBack'])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5]), left('m')), ['cameBack'])
    assert.deepEqual(broken(story([1], ['l1', 'reject', 'done', 5], [6])), ['cameBack'])
    // A receive that was under way before the answer may have been given it before.
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5], [4])), [])
  })

  it('forgives what a crash of the broker undid, and nothing else', () => {
    const journal = story([1], ['l1', 'ack', 'done', 5000], [6000])
    assert.deepEqual(broken(journal, left('m'), { crashes: [5500] }), [])
    assert.deepEqual(broken(journal, left('m'), { crashes: [4000] }), ['cameBack'])
    assert.deepEqual(broken(journal, left('m'), { crashes: [9000] }), ['cameBack'])
  })

  it('sees a message that is settled twice', () => {
    assert.deepEqual(broken(story([1], [2], ['l1', 'ack', 'done', 5], ['l2', 'ack', 'done', 6])), ['settledTwice'])
  })

  it('sees a message that was called not stored', () => {
    const journal = new Journal()
    journal.publishes.push({ id: 'm', queue: 'q', outcome: 'not_stored', asked: 0 })
    assert.deepEqual(broken(journal), [])
    assert.deepEqual(broken(journal, left('m')), ['appeared'])
  })

  it('sees what is left over, what nothing explains, what took too long, and too much', () => {
    const journal = story([1], ['l1', 'ack', 'done', 5])
    journal.surprises.push('a 500')
    journal.overFetched = 1
    journal.longestRequest = 1001
    assert.deepEqual(broken(journal, { ...nothing, leftovers: ['queue gateway.control.x'] }), [
      'leftovers',
      'surprises',
      'over-fetched',
      'a request took 1001 ms',
    ])
  })

  it('prints a table with a column for each storm', () => {
    const report = check(story([1]), nothing)
    const lines = table(new Map([['3.10 classic', report]])).split('\n')
    assert.match(lines[0]!, /3\.10 classic$/)
    assert.match(lines.find((line) => line.startsWith('lost'))!, /1$/)
  })
})
