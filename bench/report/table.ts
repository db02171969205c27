// A result as a table of words, for the terminal and for the page.

import type { ContestResult, FiguresResult, GrowthResult, Result } from '../result.js'
import { figureVerdict, number, range, ratioInWords, verdict, wordsOf } from './format.js'

export interface Table {
  title: string
  note?: string
  head: string[]
  rows: string[][]
}

export function tableOf(result: Result): Table {
  switch (result.kind) {
    case 'contest':
      return contestTable(result)
    case 'figures':
      return figuresTable(result)
    case 'growth':
      return growthTable(result)
    case 'failed':
      return { title: result.name, head: ['failed'], rows: [[result.reason]] }
  }
}

function contestTable({ name, note, contenders, comparisons }: ContestResult): Table {
  const first = contenders[0]!.name
  const rows = contenders.map((one) => {
    const own = comparisons.filter(({ against }) => against === one.name)
    return [
      one.name,
      range(one.rate),
      one.p50 ? number(one.p50.median) : '',
      one.p99 ? number(one.p99.median) : '',
      one.cpu ? number(one.cpu.median) : '',
      one.brokerCpu ? number(one.brokerCpu.median) : '',
      one.memory ? number(one.memory.median / 1024 ** 2) : '',
      own.map(({ of, ratio }) => `${of === 'rate' ? '' : `${wordsOf[of]} `}${ratioInWords(ratio)}`).join('; '),
    ]
  })
  const head = ['', 'messages/s', 'p50 ms', 'p99 ms', 'own µs/message', 'broker µs/message', 'MiB', `${first} against it`]
  return { title: name, ...(note !== undefined && { note }), head, rows }
}

function figuresTable({ name, note, figures }: FiguresResult): Table {
  const rows = figures.map((figure) => [figure.label, `${range(figure.value)} ${figure.unit}`, figureVerdict(figure)])
  return { title: name, ...(note !== undefined && { note }), head: ['', 'measured', 'aim'], rows }
}

function growthTable({ name, note, of, points, failure }: GrowthResult): Table {
  const rows = points.map(({ at, time, ratio, cpu, cpuRatio, amqplib }) => [
    at.toLocaleString('en'),
    range(time),
    ratioInWords(ratio),
    range(cpu),
    ratioInWords(cpuRatio),
    amqplib ? ratioInWords(amqplib) : '',
  ])
  const head = [of, 'µs per message', 'against next to none', 'own µs/message', 'against next to none', "amqplib's time so"]
  const notes = [note, failure && `FAILED at ${failure}`].filter(Boolean).join('; ')
  return { title: name, ...(notes && { note: notes }), head, rows }
}

/** What was aimed at, over all results. */
export function aimsTable(results: Result[]): Table {
  const rows: string[][] = []
  for (const result of results) {
    if (result.kind === 'contest') {
      for (const comparison of result.comparisons) {
        if (!comparison.aim) continue
        const what = `${result.name}: ${wordsOf[comparison.of]} against ${comparison.against}`
        rows.push([what, ratioInWords(comparison.ratio), verdict(comparison)])
      }
    } else if (result.kind === 'figures') {
      for (const figure of result.figures) {
        const aim = figureVerdict(figure)
        if (aim) rows.push([`${result.name}: ${figure.label}`, `${range(figure.value)} ${figure.unit}`, aim])
      }
    }
  }
  return { title: 'What we aim at', head: ['', 'measured', 'aim'], rows }
}

/** Columns of one width, the first to the left and numbers to the right. */
export function printed({ title, note, head, rows }: Table): string {
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
