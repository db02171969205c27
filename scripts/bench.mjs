// npm run bench: sets up what the benchmark needs, starts a private RabbitMQ for it, runs it, takes it all away again.
//   npm run bench -- --quick      the most important cases, in under two minutes
//   npm run bench -- --only text  only cases whose name has that in it; --help tells the rest

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startBroker } from './broker.mjs'
import { build, ensurePackages, ensureSystemPackages, root, say } from './project.mjs'

await ensurePackages()
const asked = process.argv.slice(2)
const onlyWords = asked.includes('--list') || asked.includes('--help')
if (!onlyWords) await ensureSystemPackages(['rabbitmq-server'])
say('building')
await build()

const dir = mkdtempSync(join(tmpdir(), 'gateway-bench-'))
let broker
if (!onlyWords) {
  say('starting a private RabbitMQ')
  broker = await startBroker({ dir })
}
const env = {
  ...process.env,
  ...(broker && { AMQP_URL: broker.url, RABBITMQ_MANAGEMENT_URL: broker.managementUrl, BENCH_BROKER_PID: brokerPid(dir) }),
}
const child = spawn(process.execPath, ['--enable-source-maps', 'dist/bench/main.js', ...asked], {
  cwd: root,
  env,
  stdio: 'inherit',
})
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => child.kill(signal))
const code = await new Promise((resolve) => child.once('exit', (status) => resolve(status ?? 1)))

await broker?.stop()
rmSync(dir, { recursive: true, force: true })
process.exitCode = code

/** The process of the Erlang machine. @param {string} folder */
function brokerPid(folder) {
  return readFileSync(join(folder, 'rabbitmq.pid'), 'utf8').trim()
}
