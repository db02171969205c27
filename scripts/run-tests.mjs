// Runs compiled test files and says how long they took. Started by scripts/test.mjs, which brings the broker:
//   node scripts/run-tests.mjs [--concurrency=2] [--coverage] dist/test/unit/a.test.js …
// The exit code is 1 if a test failed.

import { setMaxListeners } from 'node:events'
import { createWriteStream, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { Duplex, PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { run } from 'node:test'
import { lcov, spec, tap } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { root, say } from './project.mjs'

/** How many of the slowest files are printed. */
const SHOWN = 10

/** Seconds that each file took when it ran last on this machine. */
const DURATIONS_FILE = join(root, 'node_modules', '.cache', 'test-durations.json')

const COVERAGE_FILE = join(root, 'coverage', 'lcov.info')

/** The folders of test/, those with the slowest files first: the order for files that never ran here. */
const FOLDERS = ['faults', 'process', 'browser', 'examples', 'interop', 'api', 'unit']

/**
 * The files with the longest first, so that no long one is left over at the end while other processors have nothing to do.
 * @param {string[]} files
 * @param {Record<string, number>} durations in seconds, of some of them
 */
export function slowestFirst(files, durations) {
  const folder = (/** @type {string} */ file) => FOLDERS.indexOf(file.split('/')[2] ?? '')
  const size = (/** @type {string} */ file) => statSync(join(root, file)).size
  const known = files.filter((file) => durations[file] !== undefined)
  const unknown = files.filter((file) => durations[file] === undefined)
  return [
    ...unknown.sort((a, b) => folder(a) - folder(b) || size(b) - size(a)),
    ...known.sort((a, b) => (durations[b] ?? 0) - (durations[a] ?? 0)),
  ]
}

/** @returns {Record<string, number>} */
function readDurations() {
  try {
    return JSON.parse(readFileSync(DURATIONS_FILE, 'utf8'))
  } catch {
    return {} // the first run
  }
}

/** From Node 24 on `lcov` is a class, before it is a stream. @returns {import('node:stream').Transform} */
function lcovReporter() {
  const Reporter = /** @type {unknown} */ (lcov)
  return typeof Reporter === 'function' ? Reflect.construct(Reporter, []) : lcov
}

/** @typedef {Record<`${'total' | 'covered'}${'Line' | 'Branch' | 'Function'}Count`, number>} Counts */
/** @typedef {Counts & { files: (Counts & { path: string })[], totals: Counts & Record<string, number> }} Summary */

/**
 * Takes tests and scripts out of a coverage summary, and counts again.
 * @param {Summary} summary
 */
function leaveOutTests(summary) {
  const measured = ['src', 'routes', 'openapi'].map((folder) => join(root, folder, '/'))
  summary.files = summary.files.filter(({ path }) => measured.some((folder) => path.startsWith(folder)))
  for (const what of /** @type {const} */ (['Line', 'Branch', 'Function'])) {
    const sum = (/** @type {keyof Counts} */ name) => summary.files.reduce((all, file) => all + file[name], 0)
    const [total, covered] = [sum(`total${what}Count`), sum(`covered${what}Count`)]
    summary.totals[`total${what}Count`] = total
    summary.totals[`covered${what}Count`] = covered
    summary.totals[`covered${what}Percent`] = total === 0 ? 100 : (covered / total) * 100
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { concurrency: { type: 'string', default: '2' }, coverage: { type: 'boolean' } },
  })
  const durations = readDurations()
  const files = slowestFirst(positionals, durations)
  /** @type {Record<string, number>} */
  const taken = {}
  // Node 20 has no such option: there it is the flag --experimental-test-coverage that counts.
  const coverage = values.coverage ? { coverage: true } : {}
  const stopping = new AbortController()
  setMaxListeners(0, stopping.signal) // every file listens
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => stopping.abort())
  const events = run({
    files: files.map((file) => resolve(root, file)),
    concurrency: Number(values.concurrency),
    signal: stopping.signal, // ends the processes of the files
    ...coverage,
  })
  events.on('test:fail', ({ todo }) => {
    if (todo === undefined || todo === false) process.exitCode = 1
  })
  // Not in the types of Node 20: a file completes like a test that has the file's name.
  /** @type {import('node:events').EventEmitter} */
  const emitter = events
  emitter.on('test:complete', (/** @type {{ name: string, file?: string, details: { duration_ms: number } }} */ test) => {
    const { name, file, details } = test
    if (file && resolve(root, name) === file) taken[relative(root, file)] = details.duration_ms / 1000
  })

  /** Another reader of the events. */
  const copy = () => events.pipe(new PassThrough({ objectMode: true }))
  const reporter = process.stdout.isTTY ? new spec() : Duplex.from(tap)
  const reports = [pipeline(copy(), reporter, process.stdout, { end: false })]
  if (values.coverage) {
    emitter.on('test:coverage', (/** @type {{ summary: Summary }} */ { summary }) => leaveOutTests(summary))
    mkdirSync(dirname(COVERAGE_FILE), { recursive: true })
    reports.push(pipeline(copy(), lcovReporter(), createWriteStream(COVERAGE_FILE)))
  }
  await Promise.all(reports)
  if (values.coverage) say(`line by line: ${relative(root, COVERAGE_FILE)}`)

  const own = Object.entries(taken).filter(([file]) => file.startsWith('dist/'))
  if (!stopping.signal.aborted && own.length > 0) {
    mkdirSync(dirname(DURATIONS_FILE), { recursive: true })
    writeFileSync(DURATIONS_FILE, `${JSON.stringify({ ...durations, ...Object.fromEntries(own) }, null, 2)}\n`)
  }
  const slowest = Object.entries(taken).sort(([, a], [, b]) => b - a)
  const all = slowest.reduce((sum, [, seconds]) => sum + seconds, 0)
  say(`${slowest.length} files took ${Math.round(all)} s in all, ${values.concurrency} at a time; the slowest:`)
  for (const [file, seconds] of slowest.slice(0, SHOWN)) console.log(`  ${seconds.toFixed(1).padStart(6)} s  ${file}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
