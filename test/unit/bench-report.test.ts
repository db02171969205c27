// The output of the benchmark: numbers, tables, files and the command line.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { ratiosToFirst } from '../../bench/comparison.js'
import { parseOptions } from '../../bench/options.js'
import { chart } from '../../bench/report/chart.js'
import { page, writeReport } from '../../bench/report/files.js'
import { formatNumber, formatRange, formatRatio } from '../../bench/report/format.js'
import { profileTables } from '../../bench/report/profile.js'
import { aimsTable, formatTable, tableOf } from '../../bench/report/table.js'
import type { ComparisonResult, FiguresResult, GrowthResult, Result } from '../../bench/result.js'
import { cases, selectCases } from '../../bench/scenarios/index.js'
import { ratio, spread } from '../../bench/statistics.js'

const candidates = [
  { name: 'gateway', rate: spread([5000, 5100, 5200]), p50: spread([10, 11, 12]), memory: spread([1024 ** 2 * 90]) },
  { name: 'amqplib', rate: spread([10_000, 10_000, 10_000]) },
  { name: 'management', rate: spread([100, 1000, 5000]) },
]
const comparison: ComparisonResult = {
  kind: 'comparison',
  name: 'publish <1 KiB>',
  candidates,
  ratios: ratiosToFirst(candidates, [
    { metric: 'rate', against: 'amqplib', required: 0.5, goal: 0.85 },
    { metric: 'rate', against: 'management', required: 5, goal: 12 },
  ]),
}
const figures: FiguresResult = {
  kind: 'figures',
  name: 'polls',
  figures: [
    { label: 'memory', unit: 'KiB', value: spread([25, 25, 25]), limit: 20, goal: 3 },
    { label: 'buffers', unit: 'KiB', value: spread([2]), limit: 20, goal: 3 },
    { label: 'processor', unit: '%', value: spread([1]) },
  ],
}
const growth: GrowthResult = {
  kind: 'growth',
  name: 'growth',
  quantity: 'leases',
  points: [
    {
      at: 100_000,
      time: spread([100, 101, 102]),
      ratio: ratio([100, 101, 102], [100, 100, 100]),
      cpu: spread([50, 50, 50]),
      cpuRatio: ratio([50, 50, 50], [25, 25, 25]),
    },
  ],
  failure: 'no more',
}
const results: Result[] = [comparison, figures, growth, { kind: 'failed', name: 'broken', reason: '503' }]

describe('benchmark number format', () => {
  it('a number has three significant digits, or all digits before the decimal point', () => {
    assert.deepEqual([0.1234, 1.239, 12.34, 123.4, 12_345.6].map(formatNumber), ['0.12', '1.24', '12.3', '123', '12,346'])
    assert.equal(formatRange(spread([1, 2, 3])), '2.00 (1.00..3.00)')
  })

  it('a ratio is shown only if the rounds agree, and otherwise the reason', () => {
    assert.equal(formatRatio(ratio([1, 1, 1], [2, 2, 2])), '0.50 × (0.50..0.50)')
    assert.equal(formatRatio(ratio([1, 2, 9], [1, 1, 1])), 'no ratio: the rounds disagree (1.00..9.00)')
    assert.equal(formatRatio(ratio([1], [1])), 'no ratio: too few rounds (1.00..1.00)')
  })
})

describe('benchmark tables', () => {
  it('a comparison table has a row per candidate with the ratio of the first to it', () => {
    const { rows, head } = tableOf(comparison)
    assert.ok(rows.every((row) => row.length === head.length))
    assert.equal(rows[0]!.at(-1), '')
    assert.match(rows[1]!.at(-1)!, /^0\.51 ×/)
    assert.match(rows[2]!.at(-1)!, /^no ratio/)
    assert.equal(rows[0]![6], '90.0')
  })

  it('the table of aims has a verdict for every aim and limit', () => {
    const verdicts = aimsTable(results).rows.map((row) => row.at(-1)!)
    assert.deepEqual(verdicts, [
      '≥ 0.5, goal 0.85: reached',
      '≥ 5, goal 12: unknown',
      '≤ 20, goal 3: NOT REACHED',
      '≤ 20, goal 3: goal reached (too few rounds)',
    ])
  })

  it('a growth table ends at its failure, and a failed case shows its reason', () => {
    const { rows, head, note } = tableOf(growth)
    const cells = ['100,000', '101 (100..102)', '1.01 × (1.00..1.02)', '50.0 (50.0..50.0)', '2.00 × (2.00..2.00)', '']
    assert.deepEqual(rows, [cells])
    assert.equal(head.length, cells.length)
    assert.match(note!, /FAILED at no more/)
    assert.match(formatTable(tableOf(results[3]!)), /broken\n {2}failed\n {2}503/)
  })

  it('a printed table has aligned columns', () => {
    const [, head, first] = formatTable(tableOf(figures)).split('\n')
    assert.equal(head!.indexOf('measured') + 'measured'.length, first!.indexOf('KiB') + 3)
  })
})

describe('benchmark report files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-report-'))
  after(() => rmSync(folder, { recursive: true }))

  it('an .html report writes a page and its numbers', () => {
    const files = writeReport(join(folder, 'new', 'report.html'), results, { broker: 'RabbitMQ' })
    assert.deepEqual(files, [join(folder, 'new', 'report.html'), join(folder, 'new', 'report.json')])
    const written = JSON.parse(readFileSync(files[1]!, 'utf8'))
    assert.deepEqual(written, { environment: { broker: 'RabbitMQ' }, results: JSON.parse(JSON.stringify(results)) })
    assert.match(readFileSync(files[0]!, 'utf8'), /<svg[\s\S]*<table>/)
  })

  it('an .svg report writes the chart and a .json report only the numbers', () => {
    assert.equal(writeReport(join(folder, 'chart.svg'), results, {}).length, 2)
    assert.match(readFileSync(join(folder, 'chart.svg'), 'utf8'), /^<svg /)
    assert.deepEqual(writeReport(join(folder, 'only.json'), results, {}), [join(folder, 'only.json')])
  })

  it('the chart and the page escape their text', () => {
    for (const text of [chart(results), page(results, { a: '<b>' })]) {
      assert.ok(text.includes('publish &lt;1 KiB&gt;'))
      assert.ok(!/<1 KiB>|<b>/.test(text))
    }
  })

  it('the chart has a bar per candidate and growth point, scaled to the longest of its group', () => {
    const bars = [...chart(results).matchAll(/<rect x="\d+" y="[\d.]+" width="([\d.]+)"/g)].map(([, width]) => Number(width))
    assert.equal(bars.length, 4)
    assert.equal(bars.indexOf(Math.max(...bars.slice(0, 3))), 1)
  })
})

describe('benchmark CPU profile', () => {
  it('a profile is summarized from a start time on as percentages of busy time, by part and by function', () => {
    const frame = (id: number, functionName: string, url: string) => ({ id, callFrame: { functionName, url, lineNumber: 9 } })
    const profile = {
      nodes: [
        frame(1, '(idle)', ''),
        frame(2, '(garbage collector)', ''),
        frame(3, 'publish', 'file:///app/dist/src/amqp/publish/publisher.js'),
        frame(4, 'encode', 'file:///app/node_modules/amqplib/lib/codec.js'),
      ],
      samples: [4, 1, 2, 3, 3, 4],
      timeDeltas: [500, 1000, 10, 30, 20, 40],
      startTime: 7000,
    }
    const [parts, functions] = profileTables(profile, 8000)
    assert.deepEqual(parts!.rows, [
      ['this project', '50.0 %'],
      ['amqplib', '40.0 %'],
      ['garbage collection', '10.0 %'],
    ])
    assert.deepEqual(functions!.rows[0], ['publish src/amqp/publish/publisher.js:10', '50.0 %'])
  })
})

describe('benchmark command line', () => {
  it('the options have defaults, and other defaults with --quick', () => {
    const { rounds, seconds, only } = parseOptions([])
    assert.deepEqual({ rounds, seconds, only }, { rounds: 7, seconds: 1.5, only: [] })
    assert.ok(parseOptions(['--quick']).seconds < 1)
    assert.equal(parseOptions(['--quick', '--rounds', '7']).rounds, 7)
  })

  it('an unknown option, a bad number and a bad file extension are errors', () => {
    for (const args of [['--fast'], ['--rounds', '0'], ['--rounds', '1.5'], ['--seconds', 'x'], ['--report', 'x.pdf'], ['word']])
      assert.throws(() => parseOptions(args), Error, args.join(' '))
  })

  it('--only selects cases by name, and the case of an hour runs only if it is named', () => {
    const names = (args: string[]) => selectCases(cases, parseOptions(args)).map(({ name }) => name)
    assert.equal(new Set(names([])).size, cases.length - 1)
    assert.ok(names(['--quick']).length < names([]).length)
    assert.ok(names(['--only', 'QUORUM']).every((name) => name.includes('quorum')))
    assert.ok(names(['--quick', '--only', 'quorum']).length > 3)
    assert.deepEqual(
      names(['--only', 'growth']).filter((name) => name.includes('hour')),
      [],
    )
    assert.equal(names(['--only', 'an hour']).length, 1)
    assert.deepEqual(names(['--only', 'nothing like it']), [])
  })
})
