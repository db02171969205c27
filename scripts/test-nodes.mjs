// npm run test:nodes: unit and API tests on every supported Node.js version, from one build and against one private RabbitMQ.
//   npm run test:nodes -- 22 24              only these versions
//   npm run test:nodes -- 22 test/api/leases only files whose path contains that
// The versions come from the npm package `node`. What the tests print is kept in .run/.

import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { startBroker } from './broker.mjs'
import { build, ensurePackages, ensureSystemPackages, root, say } from './project.mjs'
import { compiledTests, SYSTEM_PACKAGES, testEnvironment } from './test-files.mjs'

const VERSIONS = ['20', '22', '24']
const MAX_FAILURES_SHOWN = 20

const asked = process.argv.slice(2)
const isVersion = (/** @type {string} */ word) => /^\d/.test(word)
const versions = asked.some(isVersion) ? asked.filter(isVersion) : VERSIONS
const parts = asked.filter((word) => !isVersion(word))

await ensurePackages()
say('building')
await build()
const files = compiledTests(parts.length > 0 ? parts : ['test/unit/', 'test/api/'])
if (files.length === 0) throw new Error('no test file has such a path')
const needsBroker = files.some((file) => !file.includes('test/unit/'))
if (needsBroker) await ensureSystemPackages(SYSTEM_PACKAGES)
const dir = mkdtempSync(join(tmpdir(), 'gateway-test-'))
const broker = needsBroker ? await startBroker({ dir }) : undefined
mkdirSync(join(root, '.run'), { recursive: true })
/** @type {import('node:child_process').ChildProcess | undefined} */
let running
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => {
    versions.length = 0
    running?.kill(signal)
    process.exitCode = 1
  })
}

say(`running ${files.length} test files on Node ${versions.join(', ')}`)
try {
  for (const version of versions) await runOn(version)
} finally {
  await broker?.kill()
  rmSync(dir, { recursive: true, force: true })
}

/** Runs the files on one version and prints a line about it. @param {string} version */
async function runOn(version) {
  const node = await nodeBinary(version)
  const log = join('.run', `test-node${version}.log`)
  const output = openSync(join(root, log), 'w')
  const from = Date.now()
  const code = await new Promise((resolve) => {
    running = spawn(node, ['--enable-source-maps', join('scripts', 'run-tests.mjs'), ...files], {
      cwd: root,
      env: { ...process.env, ...testEnvironment(broker), PATH: `${dirname(node)}${delimiter}${process.env['PATH']}` },
      stdio: ['ignore', output, output],
    })
    running.once('exit', (status) => resolve(status ?? 1))
  })
  const text = readFileSync(join(root, log), 'utf8')
  const count = (/** @type {string} */ what) => text.match(new RegExp(`^# ${what} (\\d+)$`, 'm'))?.[1] ?? '?'
  const seconds = Math.round((Date.now() - from) / 1000)
  const { stdout: full } = await promisify(execFile)(node, ['--version'])
  const result = `${count('pass')} passed, ${count('fail')} failed, ${count('cancelled')} cancelled, ${seconds} s`
  console.log(`${code === 0 ? '✓' : '✗'} Node ${full.trim()}: ${result} (${log})`)
  if (code === 0) return
  process.exitCode = 1
  const failures = [...text.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, name]) => name)
  for (const name of failures.slice(0, MAX_FAILURES_SHOWN)) console.log(`    ${name}`)
}

/** The path of that version's program; npm downloads it the first time. @param {string} version */
async function nodeBinary(version) {
  const { stdout } = await promisify(execFile)('npm', [
    'exec',
    '--yes',
    '--ignore-scripts=false',
    `--package=node@${version}`,
    '--',
    'which',
    'node',
  ])
  return stdout.trim()
}
