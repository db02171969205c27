// What the benchmark makes of its rounds, and when it says nothing.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { compare } from '../../bench/comparison.js'
import { document, drive, occurrences } from '../../bench/load.js'
import { type Comparison, type Measured, met } from '../../bench/result.js'
import { agree, medianInterval, quantile, ratio, shuffled, spread } from '../../bench/statistics.js'

const numbers = fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 })

describe('a quantile', () => {
  it('lies between two values by as much as the share says', () => {
    assert.equal(quantile([1, 2, 3, 4], 0.5), 2.5)
    assert.equal(quantile([1, 2, 3, 4], 0), 1)
    assert.equal(quantile([1, 2, 3, 4], 1), 4)
    assert.equal(quantile([10], 0.99), 10)
    assert.ok(Math.abs(quantile([0, 100], 0.99) - 99) < 1e-9)
  })

  it('of nothing is an error', () => {
    assert.throws(() => quantile([], 0.5), RangeError)
  })
})

describe('a spread', () => {
  it('has the median between the least and the most, and the values as they came', () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const { median, min, max, values: kept } = spread(values)
        assert.ok(min <= median && median <= max)
        assert.equal(min, Math.min(...values))
        assert.equal(max, Math.max(...values))
        assert.deepEqual(kept, values)
      }),
    )
  })

  it('compares numbers as numbers', () => {
    assert.equal(spread([100, 9, 20]).median, 20)
  })
})

describe('a ratio', () => {
  it('is taken round by round', () => {
    // The machine was half as fast in the second round, for both.
    const { median, min, max, agree } = ratio([100, 50, 100], [200, 100, 200])
    assert.deepEqual({ median, min, max, agree }, { median: 0.5, min: 0.5, max: 0.5, agree: true })
  })

  it('of other rounds is an error', () => {
    assert.throws(() => ratio([1, 2], [1]), RangeError)
  })

  it('is refused where the rounds disagree, or are fewer than three', () => {
    assert.equal(ratio([1, 2, 4, 8, 16], [1, 1, 1, 1, 1]).agree, false)
    assert.equal(ratio([1, 1], [1, 1]).agree, false)
    assert.equal(ratio([1, 1, 1], [1, 0, 1]).agree, false)
  })

  it('bears a round that is far off on either side, where there are seven', () => {
    assert.equal(agree([1, 1.1, 0.9, 1, 1, 0.1, 5]), true)
    assert.equal(agree([1, 1.1, 0.9, 1, 5, 0.1, 5]), false)
    assert.equal(agree([1, 1.1, 0.9, 1, 5]), false)
  })

  it('is known better by more rounds that are as restless', () => {
    const restless = [0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3]
    assert.equal(agree(restless), true)
    const wild = [0.5, 0.7, 0.9, 1, 1.1, 1.3, 1.5]
    assert.equal(agree(wild), false)
    assert.equal(agree([...wild, ...wild, ...wild, ...wild]), true)
  })
})

describe('the interval of the median', () => {
  it('is between the rounds that the sign test says, or between all where they are few', () => {
    const first = (count: number) => Array.from({ length: count }, (_, n) => n + 1)
    // Chances that the median is within: 0.75, 0.94, 0.875, 0.96, 0.88, 0.89
    const expected = { 3: [1, 3], 5: [1, 5], 7: [2, 6], 9: [2, 8], 15: [5, 11], 25: [9, 17] }
    for (const [count, interval] of Object.entries(expected)) assert.deepEqual(medianInterval(first(Number(count))), interval)
  })

  it('holds the median', () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const [low, high] = medianInterval(values)
        const { median } = spread(values)
        assert.ok(low <= median && median <= high)
      }),
    )
  })
})

describe('a shuffle', () => {
  it('keeps every value, and the array that it was given', () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), (values) => {
        const before = [...values]
        assert.deepEqual([...shuffled(values)].sort(), [...values].sort())
        assert.deepEqual(values, before)
      }),
    )
  })

  it('puts every value in every place', () => {
    const firsts = new Set(Array.from({ length: 200 }, () => shuffled(['a', 'b', 'c'])[0]))
    assert.deepEqual([...firsts].sort(), ['a', 'b', 'c'])
  })
})

describe('a comparison', () => {
  const measured = (name: string, rates: number[], p99s?: number[]): Measured => ({
    name,
    rate: spread(rates),
    ...(p99s && { p99: spread(p99s) }),
  })
  const ours = measured('gateway', [50, 60, 70], [10, 10, 10])

  it('is of the first against every other', () => {
    const comparisons = compare([ours, measured('amqplib', [100, 100, 100]), measured('bare', [500, 600, 700])], [])
    assert.deepEqual(
      comparisons.map(({ against, of, ratio }) => [against, of, ratio.median]),
      [
        ['amqplib', 'rate', 0.6],
        ['bare', 'rate', 0.1],
      ],
    )
  })

  it('is of the p99 too where that is aimed at and both have one', () => {
    const aims = ['amqplib', 'bare'].map((against) => ({ of: 'p99' as const, against, least: 2.5, goal: 1.2 }))
    const comparisons = compare([ours, measured('amqplib', [100, 100, 100], [5, 5, 5]), measured('bare', [1, 1, 1])], aims)
    const p99s = comparisons.filter(({ of }) => of === 'p99')
    assert.deepEqual(
      p99s.map(({ against, ratio, aim }) => [against, ratio.median, aim?.least]),
      [['amqplib', 2, 2.5]],
    )
  })

  it('is of the processor time too where the two are builds of the same program', () => {
    const [one, two] = [ours, measured('other build', [50, 60, 70])].map((each) => ({ ...each, cpu: spread([100, 110, 120]) }))
    const third = { ...measured('bare', [1, 1, 1]), cpu: spread([1, 1, 1]) }
    const comparisons = compare([one!, two!, third], [])
    assert.deepEqual(
      comparisons.map(({ against, of, ratio }) => [against, of, ratio.median]),
      [
        ['other build', 'rate', 1],
        ['other build', 'cpu', 1],
        ['bare', 'rate', 60],
      ],
    )
  })

  it('meets its aim: more is better for a rate, less for a p99, and nothing where the rounds disagree', () => {
    const of = (what: 'rate' | 'p99', values: number[]): Comparison => ({
      against: 'amqplib',
      of: what,
      ratio: ratio(values, [1, 1, 1]),
      aim: { of: what, against: 'amqplib', least: what === 'rate' ? 0.5 : 2.5, goal: what === 'rate' ? 0.85 : 1.2 },
    })
    assert.equal(met(of('rate', [0.9, 0.9, 0.9])), 'goal')
    assert.equal(met(of('rate', [0.5, 0.5, 0.5])), 'least')
    assert.equal(met(of('rate', [0.4, 0.4, 0.4])), 'missed')
    assert.equal(met(of('p99', [1.2, 1.2, 1.2])), 'goal')
    assert.equal(met(of('p99', [2, 2, 2])), 'least')
    assert.equal(met(of('p99', [3, 3, 3])), 'missed')
    assert.equal(met(of('rate', [0.1, 0.9, 3])), undefined)
    const { aim: _, ...without } = of('rate', [1, 1, 1])
    assert.equal(met(without), undefined)
  })
})

describe('the load', () => {
  it('counts messages, and an operation each for the latencies', async () => {
    let left = 10
    const run = await drive(2, 60, async () => (left-- > 0 ? 5 : 0))
    assert.equal(run.messages, 50)
    assert.equal(run.latencies.length, 10)
  })

  it('has as many operations under way as connections, and stops with the time', async () => {
    let running = 0
    let most = 0
    const run = await drive(3, 0.05, async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setTimeout(resolve, 5))
      running--
      return 1
    })
    assert.equal(most, 3)
    assert.equal(running, 0)
    assert.ok(run.messages >= 3)
  })

  it('fails with the first operation that fails', async () => {
    await assert.rejects(
      drive(2, 60, async (connection) => {
        if (connection === 1) throw new Error('503')
        return 0
      }),
      /503/,
    )
  })

  it('publishes documents of exactly the size asked for, that are JSON', () => {
    for (const bytes of [87, 100, 1024, 10_240]) {
      const text = document(bytes)
      assert.equal(Buffer.byteLength(text), bytes)
      assert.equal(typeof JSON.parse(text), 'object')
    }
    assert.throws(() => document(10), RangeError)
  })

  it('counts what stands in an answer', () => {
    assert.equal(occurrences(Buffer.from('aXbXX'), 'X'), 3)
    assert.equal(occurrences(Buffer.from('abc'), 'X'), 0)
    assert.equal(occurrences(Buffer.from('aaa'), 'aa'), 1)
  })
})
