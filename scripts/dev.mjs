// npm run dev: the gateway from its sources, restarted at every change, with a RabbitMQ as in quickstart.
// Ctrl-C ends everything it started.

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { base, endWithGateway, findRabbitMq, host, port, runUntilStopped } from './local.mjs'
import { ensurePackages, root, say } from './project.mjs'

await runUntilStopped(async () => {
  await ensurePackages()
  const { url } = await findRabbitMq('dev-broker')
  say(`starting the gateway on ${base}; the API to try out is at ${base}/docs`)
  const tsx = createRequire(join(root, 'package.json')).resolve('tsx/cli')
  const gateway = spawn(process.execPath, [tsx, 'watch', '--clear-screen=false', 'src/main.ts'], {
    cwd: root,
    env: { SHUTDOWN_DELAY: '0s', SHUTDOWN_DRAIN: '1s', ...process.env, AMQP_URL: url, HOST: host, PORT: port },
    stdio: ['ignore', process.stdout.isTTY ? 'pipe' : 'inherit', 'inherit'],
    detached: true, // Ctrl-C in the terminal is for this script, which ends the gateway before its broker
  })
  if (gateway.stdout) {
    const { default: pretty } = await import('pino-pretty')
    gateway.stdout.pipe(pretty({ colorize: true }))
  }
  endWithGateway(gateway)
})
