// npm run quickstart: from a fresh clone to a gateway that serves, with a real RabbitMQ behind it. Ctrl-C ends all it started.

import { spawn } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { base, endWithGateway, findRabbitMq, host, port, runFolder, runUntilStopped } from './local.mjs'
import { build, ensurePackages, root, say } from './project.mjs'

const logFile = join(runFolder, 'gateway.log')
const lastLog = () => readFileSync(logFile, 'utf8').split('\n').slice(-20).join('\n')

await runUntilStopped(async () => {
  await ensurePackages()
  say('building')
  await build()
  const { url, own } = await findRabbitMq('broker')
  await startGateway(url)
  console.log(greeting(own))
})

/** @param {string} amqpUrl */
async function startGateway(amqpUrl) {
  say('starting the gateway; its log is .run/gateway.log')
  const log = openSync(logFile, 'w')
  const gateway = spawn(process.execPath, ['dist/src/main.js'], {
    cwd: root,
    // Nobody waits long for the leases of a trial run when Ctrl-C is pressed.
    env: { SHUTDOWN_DELAY: '0s', SHUTDOWN_DRAIN: '1s', ...process.env, AMQP_URL: amqpUrl, HOST: host, PORT: port },
    stdio: ['ignore', log, log],
    detached: true, // Ctrl-C in the terminal is for this script, which ends the gateway before its broker
  })
  endWithGateway(gateway, lastLog)
  for (let i = 0; ; i++) {
    const ready = await fetch(`${base}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    )
    if (ready) return
    if (i > 300) throw new Error(`The gateway did not become ready:\n${lastLog()}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** @param {boolean} ownBroker */
function greeting(ownBroker) {
  return `
The gateway serves on ${base}. In another terminal:

  curl -X PUT ${base}/queues/hello
  curl -H 'content-type: text/plain' -d 'Hello World!' ${base}/queues/hello/messages
  curl '${base}/queues/hello/messages?lease=5m'

That message is under a lease now, and comes back to its queue unless it is acknowledged. All in one, another message
received raw and acknowledged in a later call:

  curl -H 'content-type: text/plain' -d 'Another task' ${base}/queues/hello/messages
  curl -s -D head.txt '${base}/queues/hello/messages?format=raw'; LEASE=$(tr -d '\\r' < head.txt | sed -n 's/^lease-id: //p')
  curl -i -X POST ${base}/leases/$LEASE/ack

Everything it can do, to try out in the browser: ${base}/docs
Ctrl-C stops it${ownBroker ? ' and its RabbitMQ' : ''}.
`
}
