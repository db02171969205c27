// The soak's look at memory: what a process has when it is warm, and at the end.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { describeMemory, memoryOf, residentMiB } from '../soak/memory.js'

describe('the memory of a process', () => {
  it('is compared between the first tenth and the last, whatever was in between', () => {
    const steady = memoryOf([...Array(10).fill(100), ...Array(80).fill(500), ...Array(10).fill(120)])
    assert.deepEqual([steady.start, steady.end, steady.grew], [100, 120, false])
    const leaking = memoryOf([...Array(90).fill(100), ...Array(10).fill(121)])
    assert.deepEqual([leaking.start, leaking.end, leaking.grew], [100, 121, true])
  })

  it('is the median of each tenth, so that one peak says nothing', () => {
    assert.deepEqual(memoryOf(Array.from({ length: 100 }, (_, n) => (n % 10 === 3 ? 999 : 80))).tenths, Array(10).fill(80))
  })

  it('is known from few samples too', () => {
    assert.deepEqual(memoryOf([100, 101, 102]).tenths.length, 10)
    assert.deepEqual([memoryOf([100]).start, memoryOf([100]).end], [100, 100])
  })

  it('is told in words, with the change', () => {
    assert.match(describeMemory(memoryOf([...Array(50).fill(100), ...Array(50).fill(110)])), /^100 MiB .* 110 MiB .*: \+10 % /)
  })

  it('is that of a process that runs, and of no other', () => {
    assert.ok(residentMiB(process.pid)! > 10)
    assert.equal(residentMiB(2 ** 22 + 1), undefined)
  })
})
