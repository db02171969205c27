// A bar chart as SVG. Each case is a group of bars, drawn to the scale of its longest bar.

import type { Result } from '../result.js'
import { spread } from '../statistics.js'
import { formatNumber } from './format.js'

interface Bar {
  label: string
  median: number
  min: number
  max: number
}

interface Group {
  title: string
  unit: string
  bars: Bar[]
}

const WIDTH = 860
const LEFT = 190
const RIGHT = 130
const BAR = 16
const ROW = 22
const HEAD = 34
const COLORS: Record<string, string> = { gateway: '#e8590c', amqplib: '#1971c2', management: '#868e96', bare: '#ced4da' }
const OTHER_COLOR = '#f4a261'

/** An SVG document with a group for each comparison and growth. A bar ends at the median; its thin line spans all rounds. */
export function chart(results: Result[]): string {
  const groups = results.map(groupOf).filter((group) => group !== undefined)
  let y = 10
  const parts: string[] = []
  for (const group of groups) {
    parts.push(drawGroup(group, y))
    y += HEAD + group.bars.length * ROW + 12
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" font-family="system-ui, sans-serif" font-size="13">
<title>The rate of each candidate, case by case</title>
<rect width="100%" height="100%" fill="#fff"/>
${parts.join('\n')}
</svg>
`
}

function groupOf(result: Result): Group | undefined {
  if (result.kind === 'comparison') {
    return { title: result.name, unit: 'messages/s', bars: result.candidates.map(({ name, rate }) => ({ label: name, ...rate })) }
  }
  if (result.kind === 'growth') {
    const bars = result.points.map(({ at, time }) => ({ label: `${at.toLocaleString('en')} ${result.quantity}`, ...time }))
    return { title: result.name, unit: 'µs per message', bars }
  }
  return undefined
}

function drawGroup({ title, unit, bars }: Group, top: number): string {
  const longest = spread(bars.map(({ max }) => max)).max
  const length = (value: number) => (value / longest) * (WIDTH - LEFT - RIGHT)
  const lines = bars.map(({ label, median, min, max }, n) => {
    const y = top + HEAD + n * ROW
    const middle = y + BAR / 2
    return [
      `<text x="${LEFT - 8}" y="${y + 12.5}" text-anchor="end">${escapeHtml(label)}</text>`,
      `<rect x="${LEFT}" y="${y}" width="${fixed(length(median))}" height="${BAR}" fill="${COLORS[label] ?? OTHER_COLOR}"/>`,
      `<line x1="${fixed(LEFT + length(min))}" x2="${fixed(LEFT + length(max))}" y1="${middle}" y2="${middle}" stroke="#212529"/>`,
      `<text x="${fixed(LEFT + length(max) + 6)}" y="${y + 12.5}">${formatNumber(median)}</text>`,
    ].join('')
  })
  const heading = `<text x="10" y="${top + 20}" font-weight="600">${escapeHtml(title)}</text>`
  const scale = `<text x="${WIDTH - 10}" y="${top + 20}" text-anchor="end" fill="#868e96">${unit}</text>`
  return [heading + scale, ...lines].join('\n')
}

const fixed = (value: number) => value.toFixed(1)

/** Escapes text for HTML and SVG, in elements and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
