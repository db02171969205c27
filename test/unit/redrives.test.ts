// How long ended redrives are kept.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { expiredRedrives } from '../../src/redrive/redrives.js'
import { REDRIVE_KIND, type RedriveState, type RedriveTask } from '../../src/redrive/task.js'

const NOW = Date.parse('2026-02-03T12:00:00Z')
const hoursAgo = (hours: number) => new Date(NOW - hours * 3_600_000).toISOString()

function entry(id: string, state: RedriveState, ended?: string) {
  const value: RedriveTask = {
    id,
    vhost: '/',
    queue: 'dead',
    dry_run: false,
    rights: [],
    state,
    total: 1,
    moved: 1,
    matched: 1,
    skipped: 0,
    failed: 0,
    started_at: hoursAgo(30),
    updated_at: ended ?? hoursAgo(0),
    ...(ended !== undefined && { ended_at: ended }),
  }
  return { kind: REDRIVE_KIND, key: id, revision: 1, value }
}
const keys = (entries: { key: string }[]) => entries.map(({ key }) => key)

describe('expiry of ended redrives', () => {
  it('a redrive expires a day after its end, however it ended, and never while it runs', () => {
    const entries = [
      entry('runs', 'running'),
      entry('done', 'done', hoursAgo(25)),
      entry('failed', 'failed', hoursAgo(24.01)),
      entry('stopped', 'stopped', hoursAgo(23.99)),
      entry('fresh', 'done', hoursAgo(0)),
    ]
    assert.deepEqual(keys(expiredRedrives(entries, NOW)), ['done', 'failed'])
  })

  it('at most 1000 redrives are kept, and the oldest expire first', () => {
    const many = Array.from({ length: 1003 }, (_, n) => entry(`r${n}`, 'done', hoursAgo(1)))
    assert.deepEqual(keys(expiredRedrives([entry('runs', 'running'), ...many], NOW)), ['r0', 'r1', 'r2'])
    assert.deepEqual(expiredRedrives(many.slice(3), NOW), [])
  })
})
