// Numbers and verdicts as text, for the terminal and the page.

import { aimStatus, type CandidateRatio, type Figure } from '../result.js'
import { agree, type Ratio, type Spread } from '../statistics.js'

/** Three significant digits, or all digits before the decimal point, with thousands separators. */
export function formatNumber(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** `median (min..max)` */
export function formatRange({ median, min, max }: Spread): string {
  return `${formatNumber(median)} (${formatNumber(min)}..${formatNumber(max)})`
}

/** The median ratio and its range, or why the rounds give no ratio. */
export function formatRatio({ median, min, max, agree, values }: Ratio): string {
  const all = `${formatNumber(min)}..${formatNumber(max)}`
  if (!agree) return `no ratio: ${values.length < 3 ? 'too few rounds' : 'the rounds disagree'} (${all})`
  return `${formatNumber(median)} × (${all})`
}

const VERDICTS = { goal: 'goal reached', required: 'reached', missed: 'NOT REACHED' }

/** The aim of a ratio and whether it is reached. Empty if the ratio has no aim. */
export function formatVerdict(candidateRatio: CandidateRatio): string {
  const { aim } = candidateRatio
  if (!aim) return ''
  const sign = aim.metric === 'rate' ? '≥' : '≤'
  const outcome = aimStatus(candidateRatio)
  return `${sign} ${aim.required}, goal ${aim.goal}: ${outcome ? VERDICTS[outcome] : 'unknown'}`
}

/** The limit of a figure and whether it is kept. Empty if the figure has no limit. */
export function formatFigureVerdict({ value, limit: most, goal }: Figure): string {
  if (most === undefined || goal === undefined) return ''
  const outcome = value.median <= goal ? VERDICTS.goal : value.median <= most ? VERDICTS.required : VERDICTS.missed
  const few = value.values.length < 3 // too few to tell noise from a result
  return `≤ ${most}, goal ${goal}: ${few || agree(value.values) ? outcome : 'unknown'}${few ? ' (too few rounds)' : ''}`
}

/** The heading of each metric. */
export const METRIC_LABELS = { rate: 'messages/s', p99: 'p99', cpu: 'own µs/message' } as const
