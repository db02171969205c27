// npm run bench: installs missing packages, builds, starts a private RabbitMQ, runs the benchmark and stops RabbitMQ again.
//   npm run bench -- --quick      runs the most important cases, in under two minutes
//   npm run bench -- --only text  runs only cases whose name contains the text
//   npm run bench -- --help       prints all options

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startBroker } from './broker.mjs'
import { build, ensurePackages, ensureSystemPackages, root, say } from './project.mjs'

await ensurePackages()
const args = process.argv.slice(2)
const needsNoBroker = args.includes('--list') || args.includes('--help')
if (!needsNoBroker) await ensureSystemPackages(['rabbitmq-server'])
say('building')
await build()

const dir = mkdtempSync(join(tmpdir(), 'gateway-bench-'))
let broker
if (!needsNoBroker) {
  say('starting a private RabbitMQ')
  broker = await startBroker({ dir })
}
const env = {
  ...process.env,
  ...(broker && { AMQP_URL: broker.url, RABBITMQ_MANAGEMENT_URL: broker.managementUrl, BENCH_BROKER_PID: brokerPid(dir) }),
}
const child = spawn(process.execPath, ['--enable-source-maps', 'dist/bench/main.js', ...args], {
  cwd: root,
  env,
  stdio: 'inherit',
})
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => child.kill(signal))
const code = await new Promise((resolve) => child.once('exit', (status) => resolve(status ?? 1)))

await broker?.stop()
rmSync(dir, { recursive: true, force: true })
process.exitCode = code

/** The process id of the Erlang VM. @param {string} folder */
function brokerPid(folder) {
  return readFileSync(join(folder, 'rabbitmq.pid'), 'utf8').trim()
}
