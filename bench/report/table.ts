// Results as tables of text, for the terminal and the page.

import type { ComparisonResult, FiguresResult, GrowthResult, Result } from '../result.js'
import { formatFigureVerdict, formatNumber, formatRange, formatRatio, formatVerdict, METRIC_LABELS } from './format.js'

/** A table of text. All rows have as many cells as the head. */
export interface Table {
  title: string
  note?: string
  head: string[]
  rows: string[][]
}

/** The table of one result. */
export function tableOf(result: Result): Table {
  switch (result.kind) {
    case 'comparison':
      return comparisonTable(result)
    case 'figures':
      return figuresTable(result)
    case 'growth':
      return growthTable(result)
    case 'failed':
      return { title: result.name, head: ['failed'], rows: [[result.reason]] }
  }
}

function comparisonTable({ name, note, candidates, ratios }: ComparisonResult): Table {
  const first = candidates[0]!.name
  const rows = candidates.map((one) => {
    const own = ratios.filter(({ against }) => against === one.name)
    return [
      one.name,
      formatRange(one.rate),
      one.p50 ? formatNumber(one.p50.median) : '',
      one.p99 ? formatNumber(one.p99.median) : '',
      one.cpu ? formatNumber(one.cpu.median) : '',
      one.brokerCpu ? formatNumber(one.brokerCpu.median) : '',
      one.memory ? formatNumber(one.memory.median / 1024 ** 2) : '',
      own.map(({ metric, ratio }) => `${metric === 'rate' ? '' : `${METRIC_LABELS[metric]} `}${formatRatio(ratio)}`).join('; '),
    ]
  })
  const head = ['', 'messages/s', 'p50 ms', 'p99 ms', 'own µs/message', 'broker µs/message', 'MiB', `ratio of ${first} to it`]
  return { title: name, ...(note !== undefined && { note }), head, rows }
}

function figuresTable({ name, note, figures }: FiguresResult): Table {
  const rows = figures.map((figure) => [figure.label, `${formatRange(figure.value)} ${figure.unit}`, formatFigureVerdict(figure)])
  return { title: name, ...(note !== undefined && { note }), head: ['', 'measured', 'aim'], rows }
}

function growthTable({ name, note, quantity, points, failure }: GrowthResult): Table {
  const rows = points.map(({ at, time, ratio, cpu, cpuRatio, amqplib }) => [
    at.toLocaleString('en'),
    formatRange(time),
    formatRatio(ratio),
    formatRange(cpu),
    formatRatio(cpuRatio),
    amqplib ? formatRatio(amqplib) : '',
  ])
  const head = [quantity, 'µs per message', 'ratio to idle', 'own µs/message', 'ratio to idle', "amqplib's ratio of times"]
  const notes = [note, failure && `FAILED at ${failure}`].filter(Boolean).join('; ')
  return { title: name, ...(notes && { note: notes }), head, rows }
}

/** The aims and limits of all results, each with its verdict. */
export function aimsTable(results: Result[]): Table {
  const rows: string[][] = []
  for (const result of results) {
    if (result.kind === 'comparison') {
      for (const candidateRatio of result.ratios) {
        if (!candidateRatio.aim) continue
        const what = `${result.name}: ${METRIC_LABELS[candidateRatio.metric]} against ${candidateRatio.against}`
        rows.push([what, formatRatio(candidateRatio.ratio), formatVerdict(candidateRatio)])
      }
    } else if (result.kind === 'figures') {
      for (const figure of result.figures) {
        const aim = formatFigureVerdict(figure)
        if (aim) rows.push([`${result.name}: ${figure.label}`, `${formatRange(figure.value)} ${figure.unit}`, aim])
      }
    }
  }
  return { title: 'Aims', head: ['', 'measured', 'aim'], rows }
}

/** A table for the terminal: aligned columns, the first and the last to the left, the others to the right. */
export function formatTable({ title, note, head, rows }: Table): string {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]!.length)))
  const line = (cells: string[]) => {
    const aligned = cells.map((cell, n) =>
      n === 0 || n === cells.length - 1 ? cell.padEnd(widths[n]!) : cell.padStart(widths[n]!),
    )
    return `  ${aligned.join('  ')}`.trimEnd()
  }
  const heading = note === undefined ? title : `${title}\n  (${note})`
  return `${heading}\n${[head, ...rows].map(line).join('\n')}\n`
}
