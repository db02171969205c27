// npm test: sets up what the tests need, starts a private RabbitMQ for them, runs them, and stops it again.
//   npm test                            every test
//   npm test -- test/api/leases         files whose path contains that
//   npm test -- --unit                  test/unit, which needs no broker
//   npm test -- --concurrency=1         one file at a time, 2 if not given
//   npm test -- --inspect test/unit/ids one file, which waits for a debugger
//   npm run coverage                    unit and API tests, with what they covered

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startBroker } from './broker.mjs'
import { build, ensurePackages, ensureSystemPackages, root, say } from './project.mjs'
import { compiledTests, SYSTEM_PACKAGES, testEnvironment } from './test-files.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    unit: { type: 'boolean' },
    coverage: { type: 'boolean' },
    inspect: { type: 'boolean' },
    concurrency: { type: 'string' },
  },
})
const filters = positionals
if (options.coverage && filters.length === 0) filters.push('test/unit/', 'test/api/')
const from = Date.now()

await ensurePackages()
if (!options.unit) await ensureSystemPackages(SYSTEM_PACKAGES)
say('building')
await build()

const files = compiledTests(filters).filter((file) => !options.unit || file.includes('test/unit/'))
if (files.length === 0) fail('no test file has such a path')
if (options.inspect && files.length > 1) fail(`--inspect runs one file, and the path fits ${files.length}:\n${files.join('\n')}`)

const dir = mkdtempSync(join(tmpdir(), 'gateway-test-'))
let broker
if (!options.unit) {
  say('starting a private RabbitMQ')
  // AMQP 1.0 clients can publish messages that RabbitMQ cannot deliver.
  broker = await startBroker({ dir, plugins: ['rabbitmq_amqp1_0'] })
}
const env = { ...process.env, ...testEnvironment(broker) }
if (options.inspect && broker) {
  say(`AMQP: ${broker.url}`)
  say(`management: ${broker.managementUrl}`)
  say(`rabbitmqctl: ${broker.ctlPath}`)
}
say(`running ${files.length === 1 ? files[0] : `${files.length} test files`}`)
const runner = spawn(process.execPath, ['--enable-source-maps', ...runnerArguments()], { cwd: root, env, stdio: 'inherit' })
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => runner.kill(signal))
const code = await new Promise((resolve) => runner.once('exit', (status) => resolve(status ?? 1)))

await broker?.kill() // nobody needs its data again, and an orderly end takes six seconds
if (existsSync(dir)) rmSync(dir, { recursive: true, force: true })
say(`done in ${Math.round((Date.now() - from) / 1000)} s`)
process.exitCode = code

function runnerArguments() {
  if (options.inspect) return ['--inspect-brk', ...files]
  return [
    ...(options.coverage ? ['--experimental-test-coverage'] : []),
    join('scripts', 'run-tests.mjs'),
    ...(options.coverage ? ['--coverage'] : []),
    ...(options.concurrency ? [`--concurrency=${options.concurrency}`] : []),
    ...files,
  ]
}

/** @param {string} message */
function fail(message) {
  console.error(`✗ ${message}`)
  process.exit(1)
}
