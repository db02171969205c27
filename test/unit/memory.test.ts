// The memory check of the soak test: a warm process compared with the same process at the end.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { describeMemory, memoryOf, residentMiB } from '../soak/memory.js'

describe('soak test memory check', () => {
  it('memory growth compares the last tenth with the first', () => {
    const steady = memoryOf([...Array(10).fill(100), ...Array(80).fill(500), ...Array(10).fill(120)])
    assert.deepEqual([steady.start, steady.end, steady.grew], [100, 120, false])
    const leaking = memoryOf([...Array(90).fill(100), ...Array(10).fill(121)])
    assert.deepEqual([leaking.start, leaking.end, leaking.grew], [100, 121, true])
  })

  it('the memory of each tenth is its median, so that a single peak does not count', () => {
    assert.deepEqual(memoryOf(Array.from({ length: 100 }, (_, n) => (n % 10 === 3 ? 999 : 80))).tenths, Array(10).fill(80))
  })

  it('memory is judged even from fewer than ten samples', () => {
    assert.deepEqual(memoryOf([100, 101, 102]).tenths.length, 10)
    assert.deepEqual([memoryOf([100]).start, memoryOf([100]).end], [100, 100])
  })

  it('the description of the memory has the start, the end and the change in percent', () => {
    assert.match(describeMemory(memoryOf([...Array(50).fill(100), ...Array(50).fill(110)])), /^100 MiB .* 110 MiB .*: \+10 % /)
  })

  it('the resident memory is undefined for a process that does not exist', () => {
    assert.ok(residentMiB(process.pid)! > 10)
    assert.equal(residentMiB(2 ** 22 + 1), undefined)
  })
})
