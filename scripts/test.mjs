// npm test: sets up what the tests need, starts a private RabbitMQ for them, runs them, takes it all away again.
//   npm test                     every test
//   npm test -- test/api/leases  only files whose path has that in it
//   npm test -- --unit           only test/unit, which needs no broker

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startBroker } from './broker.mjs'
import { build, ensurePackages, ensureSystemPackages, root, say } from './project.mjs'

const SYSTEM_PACKAGES = [
  'rabbitmq-server',
  'python3',
  'python3-pika',
  'amqp-tools',
  'chromium',
  'php-cli',
  'php-curl',
  'curl',
  'openssl',
]

const unitOnly = process.argv.includes('--unit')
const filters = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const from = Date.now()

await ensurePackages()
if (!unitOnly) await ensureSystemPackages(SYSTEM_PACKAGES)
say('building')
await build()

const files = readdirSync(join(root, 'dist', 'test'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js'))
  .map((file) => join('dist', 'test', file))
  .filter((file) => !unitOnly || file.includes(join('test', 'unit')))
  .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter.replace(/\.ts$/, ''))))
  .sort()
if (files.length === 0) {
  console.error('✗ no test has such a path')
  process.exit(1)
}

const dir = mkdtempSync(join(tmpdir(), 'gateway-test-'))
let broker
if (!unitOnly) {
  say('starting a private RabbitMQ')
  broker = await startBroker({ dir })
}
say(`running ${files.length} test files`)
// 127.0.0.1 never goes through a proxy that the environment may name.
const env = {
  ...process.env,
  NODE_ENV: 'test',
  ...(broker && { AMQP_URL: broker.url, RABBITMQ_MANAGEMENT_URL: broker.managementUrl, TEST_BROKER_CTL: broker.ctlPath }),
}
const reporter = process.stdout.isTTY ? 'spec' : 'tap'
const args = ['--test', `--test-reporter=${reporter}`, '--test-concurrency=2', '--enable-source-maps', ...files]
const runner = spawn(process.execPath, args, { cwd: root, env, stdio: 'inherit' })
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => runner.kill(signal))
const code = await new Promise((resolve) => runner.once('exit', (status) => resolve(status ?? 1)))

await broker?.stop()
if (existsSync(dir)) rmSync(dir, { recursive: true, force: true })
say(`done in ${Math.round((Date.now() - from) / 1000)} s`)
process.exitCode = code
