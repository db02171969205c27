// The results as files: a page with chart and tables or the chart alone, and always the numbers.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Result } from '../result.js'
import { chart, escapeHtml } from './chart.js'
import { aimsTable, type Table, tableOf } from './table.js'

/** The machine, versions and settings that the numbers depend on, as `name: value` pairs for the reader. */
export type Environment = Record<string, string>

/** Writes the page or chart and the numbers, and makes their folder if necessary. @returns the paths of the written files */
export function writeReport(file: string, results: Result[], environment: Environment): string[] {
  mkdirSync(dirname(file), { recursive: true })
  const numbers = file.replace(/\.\w+$/, '.json')
  writeFileSync(numbers, `${JSON.stringify({ environment, results }, null, 2)}\n`)
  if (file === numbers) return [numbers]
  writeFileSync(file, file.endsWith('.svg') ? chart(results) : page(results, environment))
  return [file, numbers]
}

/** The results as an HTML page, without references to other files. */
export function page(results: Result[], environment: Environment): string {
  const tables = [aimsTable(results), ...results.map(tableOf)].filter(({ rows }) => rows.length > 0)
  const facts = Object.entries(environment).map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`)
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Benchmark of rabbitmq-http-gateway</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 2rem }
th, td { padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #dee2e6; white-space: nowrap }
th:first-child, td:first-child, td:last-child { text-align: left }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dd { margin: 0 }
</style>
<h1>Benchmark of rabbitmq-http-gateway</h1>
<dl>${facts.join('')}</dl>
${chart(results)}
${tables.map(htmlTable).join('\n')}
</html>
`
}

function htmlTable({ title, note, head, rows }: Table): string {
  const row = (cells: string[], tag: 'th' | 'td') =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`
  const remark = note === undefined ? '' : `<p>${escapeHtml(note)}</p>`
  return `<h2>${escapeHtml(title)}</h2>${remark}
<table>${row(head, 'th')}
${rows.map((cells) => row(cells, 'td')).join('\n')}
</table>`
}
