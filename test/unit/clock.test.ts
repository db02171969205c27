// The clocks: which one the code reads, and what is shown of the monotonic one.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { now, timestamp, wallTime, wallTimeAt } from '../../src/lib/clock.js'
import { ExpiringMap } from '../../src/lib/expiring-map.js'

const CLOCK = 'src/lib/clock.ts'

/** Files that compare a time with one that somebody else wrote, or sign one. */
const BY_WALL_TIME = [
  'src/access/api-keys.ts', // expires_at in the key file
  'src/access/jwt.ts', // exp and nbf
  'src/access/tickets.ts', // any instance opens them, also after a restart
  'src/amqp/consume/delivery.ts', // the message says when it expires, and any instance may read it
  'src/amqp/copies.ts', // the same
  'src/instances/signature.ts', // another instance compares it with its own clock
  'src/push/request.ts', // the endpoint does
  'src/push/response.ts', // Retry-After with a date
  'src/push/status.ts', // reports of other instances
  'src/redrive/redrives.ts', // ended_at, which any instance wrote
]

const sources = ['src', 'routes', 'openapi'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file)),
)

const filesWith = (pattern: RegExp) => sources.filter((file) => pattern.test(readFileSync(file, 'utf8'))).sort()

describe('the code of the gateway', () => {
  it(`only ${CLOCK} reads a clock of Node.js`, () => {
    const read = filesWith(/\bDate\.now\b|\bnew Date\(\s*\)|(?<!new )\bDate\(\s*\)|\bperformance\.now\b|\bhrtime\b/)
    assert.deepEqual(read, [CLOCK])
  })

  it('no map of toad-cache expires by the wall clock', () => {
    assert.deepEqual(filesWith(/new (?:Lru|Fifo)(?:Map|Object)(?:<[^(]*>)?\([^)]*,/), [])
  })

  it('the time of day is only compared with times that others wrote', () => {
    assert.deepEqual(
      filesWith(/\bwallTime\(\)/).filter((file) => file !== CLOCK),
      BY_WALL_TIME,
    )
  })
})

describe('the clocks', () => {
  it('the wall time of an instant is the present time plus the time until then', () => {
    const ahead = wallTimeAt(now() + 60_000) - wallTime()
    assert.ok(Math.abs(ahead - 60_000) <= 100, `${ahead} ms`)
    assert.equal(timestamp(now() + 60_000).length, '2026-01-01T00:00:00.000Z'.length)
  })

  it('the wall time of the same instant is the same each time it is shown', () => {
    const instant = now() + 1234.5
    const shown = new Set(Array.from({ length: 10_000 }, () => timestamp(instant)))
    assert.equal(shown.size, 1)
  })

  it('the wall time of an instant follows a clock that is set', (t) => {
    const instant = now()
    const before = wallTimeAt(instant)
    const real = Date.now
    t.mock.method(Date, 'now', () => real() + 3_600_000)
    assert.ok(Math.abs(wallTimeAt(instant) - before - 3_600_000) <= 100)
  })
})

describe('a map that expires', () => {
  it('forgets an entry after its lifetime, whatever the wall clock shows', async (t) => {
    const map = new ExpiringMap<number>(10, 200)
    map.set('a', 1)
    const real = Date.now
    for (const hours of [1, -1]) {
      t.mock.method(Date, 'now', () => real() + hours * 3_600_000)
      assert.equal(map.get('a'), 1)
    }
    assert.ok(map.remaining('a') > 0 && map.remaining('a') <= 200)
    await new Promise((resolve) => setTimeout(resolve, map.remaining('a') + 5))
    assert.equal(map.get('a'), undefined)
    assert.equal(map.remaining('a'), 0)
  })

  it('holds the most recently used entries', () => {
    const map = new ExpiringMap<number>(2, 60_000)
    for (const key of ['a', 'b']) map.set(key, 1)
    map.get('a')
    map.set('c', 1)
    assert.deepEqual([map.get('a'), map.get('b'), map.get('c')], [1, undefined, 1])
    map.delete('a')
    assert.equal(map.get('a'), undefined)
  })
})
