// Numbers and verdicts in words, the same on the terminal and on the page.

import { type Comparison, type Figure, met } from '../result.js'
import { agree, type Ratio, type Spread } from '../statistics.js'

/** Three significant digits or all before the point, thousands apart. */
export function number(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** `median (min..max)` */
export function range({ median, min, max }: Spread): string {
  return `${number(median)} (${number(min)}..${number(max)})`
}

/** The ratio, or why there is none. */
export function ratioInWords({ median, min, max, agree, values }: Ratio): string {
  const all = `${number(min)}..${number(max)}`
  if (!agree) return values.length < 3 ? `no ratio of ${values.length} rounds (${all})` : `no ratio: the rounds disagree (${all})`
  return `${number(median)} × (${all})`
}

const VERDICTS = { goal: 'goal reached', least: 'reached', missed: 'NOT REACHED' }

/** What was aimed at, and whether it is met; empty where nothing was. */
export function verdict(comparison: Comparison): string {
  const { aim } = comparison
  if (!aim) return ''
  const sign = aim.of === 'rate' ? '≥' : '≤'
  const outcome = met(comparison)
  return `${sign} ${aim.least}, goal ${aim.goal}: ${outcome ? VERDICTS[outcome] : 'not known'}`
}

/** The same for a figure, which has to stay below its mark. */
export function figureVerdict({ value, most, goal }: Figure): string {
  if (most === undefined || goal === undefined) return ''
  const outcome = value.median <= goal ? VERDICTS.goal : value.median <= most ? VERDICTS.least : VERDICTS.missed
  const few = value.values.length < 3
  return `≤ ${most}, goal ${goal}: ${few || agree(value.values) ? outcome : 'not known'}${few ? ', of too few rounds' : ''}`
}

export const wordsOf = { rate: 'messages/s', p99: 'p99', cpu: 'own µs/message' } as const
