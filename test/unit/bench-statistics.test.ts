// The statistics, ratios and load of the benchmark.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ratiosToFirst } from '../../bench/comparison.js'
import { countOccurrences, jsonDocument, runLoad } from '../../bench/load.js'
import { aimStatus, type CandidateRatio, type CandidateResult } from '../../bench/result.js'
import { agree, medianInterval, quantile, ratio, shuffled, spread } from '../../bench/statistics.js'

const numbers = fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 })

describe('quantile', () => {
  it('a quantile is interpolated linearly between two values', () => {
    assert.equal(quantile([1, 2, 3, 4], 0.5), 2.5)
    assert.equal(quantile([1, 2, 3, 4], 0), 1)
    assert.equal(quantile([1, 2, 3, 4], 1), 4)
    assert.equal(quantile([10], 0.99), 10)
    assert.ok(Math.abs(quantile([0, 100], 0.99) - 99) < 1e-9)
  })

  it('a quantile of no values is an error', () => {
    assert.throws(() => quantile([], 0.5), RangeError)
  })
})

describe('spread', () => {
  it('a spread has the minimum, the maximum, a median between them, and the values in their order', () => {
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

  it('a spread sorts its values as numbers', () => {
    assert.equal(spread([100, 9, 20]).median, 20)
  })
})

describe('ratio', () => {
  it('a ratio is computed round by round', () => {
    // The machine was half as fast in the second round, for both.
    const { median, min, max, agree } = ratio([100, 50, 100], [200, 100, 200])
    assert.deepEqual({ median, min, max, agree }, { median: 0.5, min: 0.5, max: 0.5, agree: true })
  })

  it('a ratio of different numbers of rounds is an error', () => {
    assert.throws(() => ratio([1, 2], [1]), RangeError)
  })

  it('a ratio does not agree if its rounds differ too much or are fewer than three', () => {
    assert.equal(ratio([1, 2, 4, 8, 16], [1, 1, 1, 1, 1]).agree, false)
    assert.equal(ratio([1, 1], [1, 1]).agree, false)
    assert.equal(ratio([1, 1, 1], [1, 0, 1]).agree, false)
  })

  it('a ratio of seven rounds tolerates one outlier on each side', () => {
    assert.equal(agree([1, 1.1, 0.9, 1, 1, 0.1, 5]), true)
    assert.equal(agree([1, 1.1, 0.9, 1, 5, 0.1, 5]), false)
    assert.equal(agree([1, 1.1, 0.9, 1, 5]), false)
  })

  it('a ratio of noisy rounds agrees once there are enough of them', () => {
    const restless = [0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3]
    assert.equal(agree(restless), true)
    const wild = [0.5, 0.7, 0.9, 1, 1.1, 1.3, 1.5]
    assert.equal(agree(wild), false)
    assert.equal(agree([...wild, ...wild, ...wild, ...wild]), true)
  })
})

describe('confidence interval of the median', () => {
  it('the interval is that of the sign test, or spans all rounds if they are few', () => {
    const first = (count: number) => Array.from({ length: count }, (_, n) => n + 1)
    // The probabilities that the median is inside: 0.75, 0.94, 0.875, 0.96, 0.88, 0.89
    const expected = { 3: [1, 3], 5: [1, 5], 7: [2, 6], 9: [2, 8], 15: [5, 11], 25: [9, 17] }
    for (const [count, interval] of Object.entries(expected)) assert.deepEqual(medianInterval(first(Number(count))), interval)
  })

  it('the interval contains the median', () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const [low, high] = medianInterval(values)
        const { median } = spread(values)
        assert.ok(low <= median && median <= high)
      }),
    )
  })
})

describe('shuffle', () => {
  it('a shuffle keeps every value and does not change its input', () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), (values) => {
        const before = [...values]
        assert.deepEqual([...shuffled(values)].sort(), [...values].sort())
        assert.deepEqual(values, before)
      }),
    )
  })

  it('a shuffle can put every value first', () => {
    const firsts = new Set(Array.from({ length: 200 }, () => shuffled(['a', 'b', 'c'])[0]))
    assert.deepEqual([...firsts].sort(), ['a', 'b', 'c'])
  })
})

describe('comparison', () => {
  const measured = (name: string, rates: number[], p99s?: number[]): CandidateResult => ({
    name,
    rate: spread(rates),
    ...(p99s && { p99: spread(p99s) }),
  })
  const ours = measured('gateway', [50, 60, 70], [10, 10, 10])

  it('a comparison has the ratio of the first candidate to each of the others', () => {
    const comparisons = ratiosToFirst([ours, measured('amqplib', [100, 100, 100]), measured('bare', [500, 600, 700])], [])
    assert.deepEqual(
      comparisons.map(({ against, metric: of, ratio }) => [against, of, ratio.median]),
      [
        ['amqplib', 'rate', 0.6],
        ['bare', 'rate', 0.1],
      ],
    )
  })

  it('a comparison includes the p99 if an aim names it and both candidates have one', () => {
    const aims = ['amqplib', 'bare'].map((against) => ({ metric: 'p99' as const, against, required: 2.5, goal: 1.2 }))
    const comparisons = ratiosToFirst([ours, measured('amqplib', [100, 100, 100], [5, 5, 5]), measured('bare', [1, 1, 1])], aims)
    const p99s = comparisons.filter(({ metric: of }) => of === 'p99')
    assert.deepEqual(
      p99s.map(({ against, ratio, aim }) => [against, ratio.median, aim?.required]),
      [['amqplib', 2, 2.5]],
    )
  })

  it('a comparison includes the processor time if both candidates are builds of the same program', () => {
    const [one, two] = [ours, measured('other build', [50, 60, 70])].map((each) => ({ ...each, cpu: spread([100, 110, 120]) }))
    const third = { ...measured('bare', [1, 1, 1]), cpu: spread([1, 1, 1]) }
    const comparisons = ratiosToFirst([one!, two!, third], [])
    assert.deepEqual(
      comparisons.map(({ against, metric: of, ratio }) => [against, of, ratio.median]),
      [
        ['other build', 'rate', 1],
        ['other build', 'cpu', 1],
        ['bare', 'rate', 60],
      ],
    )
  })

  it('an aim is a minimum for a rate and a maximum for a p99, and has no status if the rounds disagree', () => {
    const of = (what: 'rate' | 'p99', values: number[]): CandidateRatio => ({
      against: 'amqplib',
      metric: what,
      ratio: ratio(values, [1, 1, 1]),
      aim: { metric: what, against: 'amqplib', required: what === 'rate' ? 0.5 : 2.5, goal: what === 'rate' ? 0.85 : 1.2 },
    })
    assert.equal(aimStatus(of('rate', [0.9, 0.9, 0.9])), 'goal')
    assert.equal(aimStatus(of('rate', [0.5, 0.5, 0.5])), 'required')
    assert.equal(aimStatus(of('rate', [0.4, 0.4, 0.4])), 'missed')
    assert.equal(aimStatus(of('p99', [1.2, 1.2, 1.2])), 'goal')
    assert.equal(aimStatus(of('p99', [2, 2, 2])), 'required')
    assert.equal(aimStatus(of('p99', [3, 3, 3])), 'missed')
    assert.equal(aimStatus(of('rate', [0.1, 0.9, 3])), undefined)
    const { aim: _, ...without } = of('rate', [1, 1, 1])
    assert.equal(aimStatus(without), undefined)
  })
})

describe('benchmark load', () => {
  it('the load counts messages and has one latency per operation', async () => {
    let left = 10
    const run = await runLoad(2, 60, async () => (left-- > 0 ? 5 : 0))
    assert.equal(run.messages, 50)
    assert.equal(run.latencies.length, 10)
  })

  it('the load has one operation in progress per connection and stops when its time is over', async () => {
    let running = 0
    let most = 0
    const run = await runLoad(3, 0.05, async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setTimeout(resolve, 5))
      running--
      return 1
    })
    assert.equal(most, 3)
    assert.equal(running, 0)
    assert.ok(run.messages >= 3)
  })

  it('the load fails with the first operation that fails', async () => {
    await assert.rejects(
      runLoad(2, 60, async (connection) => {
        if (connection === 1) throw new Error('503')
        return 0
      }),
      /503/,
    )
  })

  it('a generated document is JSON of exactly the requested size', () => {
    for (const bytes of [87, 100, 1024, 10_240]) {
      const text = jsonDocument(bytes)
      assert.equal(Buffer.byteLength(text), bytes)
      assert.equal(typeof JSON.parse(text), 'object')
    }
    assert.throws(() => jsonDocument(10), RangeError)
  })

  it('occurrences of a text in a response are counted without overlap', () => {
    assert.equal(countOccurrences(Buffer.from('aXbXX'), 'X'), 3)
    assert.equal(countOccurrences(Buffer.from('abc'), 'X'), 0)
    assert.equal(countOccurrences(Buffer.from('aaa'), 'aa'), 1)
  })
})
