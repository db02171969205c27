// The invariants of the soak test: each kind of violation is found, and a journal without one passes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { checkInvariants, type FinalState, formatReports, violations } from '../soak/invariants.js'
import { Journal, type SettleResult, type Verdict } from '../soak/journal.js'

const nothing: FinalState = { queued: new Map(), dead: [], leftovers: [] }
const left = (...ids: string[]): FinalState => ({ ...nothing, queued: new Map([['q', ids]]) })

/** A journal of one confirmed message, `m`: its deliveries by the time of their request, and the settles of their leases. */
function story(
  ...events: ([asked: number] | [lease: string, verdict: Verdict, result: SettleResult, answered: number])[]
): Journal {
  const journal = new Journal()
  journal.publishes.push({ id: 'm', queue: 'q', outcome: 'confirmed', requestedAt: 0, answeredAt: 0 })
  for (const event of events) {
    if (event.length === 1) journal.deliveries.push({ id: 'm', queue: 'q', lease: `l${event[0]}`, requestedAt: event[0] })
    else journal.settles.push({ id: 'm', lease: event[0], verdict: event[1], result: event[2], answeredAt: event[3] })
  }
  return journal
}

const broken = (journal: Journal, remains: FinalState = nothing, options = {}) =>
  violations(checkInvariants(journal, remains, options), 1000).map((line) => line.split(':')[0])

describe('soak test invariants', () => {
  it('a journal without violations reports none', () => {
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5])), [])
    assert.deepEqual(broken(story([1], ['l1', 'requeue', 'done', 5], [6], ['l6', 'ack', 'done', 9])), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'gone', 5]), left('m')), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'unknown', 5])), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'unknown', 5], [7]), left('m')), [])
    assert.deepEqual(broken(story([1], ['l1', 'reject', 'done', 5]), { ...nothing, dead: ['m'] }), [])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5], ['l1', 'ack', 'done', 6])), [])
    assert.deepEqual(broken(story(), left('m')), [])
  })

  it('a message behind one that was published after its confirm is a violation, unless either was delivered before', () => {
    const answered = (...answer: [id: string, redelivered: boolean][]) => {
      const journal = story([1], ['l1', 'ack', 'done', 5])
      journal.publishes.push({ id: 'later', queue: 'q', outcome: 'confirmed', requestedAt: 1, answeredAt: 2 })
      journal.settles.push({ id: 'later', lease: 'l2', verdict: 'ack', result: 'done', answeredAt: 5 })
      journal.answers.push(answer.map(([id, redelivered]) => ({ id, redelivered })))
      return journal
    }
    assert.deepEqual(broken(answered(['later', false], ['m', false])), ['outOfOrder'])
    assert.deepEqual(broken(answered(['m', false], ['later', false])), [])
    assert.deepEqual(broken(answered(['later', false], ['m', true])), [])
    assert.deepEqual(broken(answered(['later', true], ['m', false])), [])
  })

  it('a lost message is a violation', () => {
    assert.deepEqual(broken(story()), ['lost'])
    assert.deepEqual(broken(story([1])), ['lost'])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'gone', 5])), ['lost'])
    assert.deepEqual(broken(story([1], ['l1', 'requeue', 'done', 5])), ['lost'])
  })

  it('a message deleted with its queue is excused, one published after the queue was declared again is not', () => {
    for (const [queue, until, expected] of [
      ['q', 0, []],
      ['q', 10, []],
      ['q', -1, ['lost']],
      ['other', 10, ['lost']],
    ] as const) {
      const journal = story([1])
      journal.deletions.push({ queue, recreatedAt: until })
      assert.deepEqual(broken(journal), expected)
    }
    const journal = story([1], ['l1', 'ack', 'done', 5], [6])
    journal.deletions.push({ queue: 'q', recreatedAt: 10 })
    assert.deepEqual(broken(journal), ['redeliveredAfterSettle'])
  })

  it('a message that is delivered after its settle is a violation', () => {
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5], [6])), ['redeliveredAfterSettle'])
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5]), left('m')), ['redeliveredAfterSettle'])
    assert.deepEqual(broken(story([1], ['l1', 'reject', 'done', 5], [6])), ['redeliveredAfterSettle'])
    // A receive that began before the settle was answered may have delivered the message before.
    assert.deepEqual(broken(story([1], ['l1', 'ack', 'done', 5], [4])), [])
  })

  it('a settle that a broker crash undid is excused, an earlier or later one is not', () => {
    const journal = story([1], ['l1', 'ack', 'done', 5000], [6000])
    assert.deepEqual(broken(journal, left('m'), { crashes: [5500] }), [])
    assert.deepEqual(broken(journal, left('m'), { crashes: [4000] }), ['redeliveredAfterSettle'])
    assert.deepEqual(broken(journal, left('m'), { crashes: [9000] }), ['redeliveredAfterSettle'])
  })

  it('a message that is settled under two leases is a violation', () => {
    assert.deepEqual(broken(story([1], [2], ['l1', 'ack', 'done', 5], ['l2', 'ack', 'done', 6])), ['settledTwice'])
  })

  it('a message that was answered as not stored and exists is a violation', () => {
    const journal = new Journal()
    journal.publishes.push({ id: 'm', queue: 'q', outcome: 'not_stored', requestedAt: 0, answeredAt: 0 })
    assert.deepEqual(broken(journal), [])
    assert.deepEqual(broken(journal, left('m')), ['storedAfterRefusal'])
  })

  it('leftovers, unexpected responses, over-fetching and slow requests are violations', () => {
    const journal = story([1], ['l1', 'ack', 'done', 5])
    journal.unexpected.push('a 500')
    journal.overFetched = 1
    journal.longestRequestMs = 1001
    assert.deepEqual(broken(journal, { ...nothing, leftovers: ['queue gateway.control.x'] }), [
      'leftovers',
      'unexpected',
      'over-fetched',
      'a request took 1001 ms',
    ])
  })

  it('the reports are formatted as a table with a column per run', () => {
    const report = checkInvariants(story([1]), nothing)
    const lines = formatReports(new Map([['3.10 classic', report]])).split('\n')
    assert.match(lines[0]!, /3\.10 classic$/)
    assert.match(lines.find((line) => line.startsWith('lost'))!, /1$/)
  })
})
