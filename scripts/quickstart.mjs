// npm run quickstart: from a fresh clone to a gateway that serves, with a real RabbitMQ behind it. Ctrl-C ends all it started.

import { spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { accepts, freePort, installedServer, speaksAmqp, startBroker } from './broker.mjs'
import { build, ensurePackages, ensureSystemPackages, root, run, say, succeeds } from './project.mjs'

const folder = join(root, '.run')
const host = process.env['HOST'] || '127.0.0.1'
const port = process.env['PORT'] || '8080'
const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
const base = `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}`

/** What to end, the last started first. @type {(() => Promise<void>)[]} */
const endings = []
let ending = false

/** @param {number} code */
async function end(code) {
  if (ending) {
    process.exit(130) // asked twice: at once
  }
  ending = true
  for (const one of endings.reverse()) await one().catch((error) => console.error(error.message))
  process.exit(code)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (!ending) say('stopping')
    void end(0)
  })
}

try {
  mkdirSync(folder, { recursive: true })
  if (await accepts(Number(port))) throw new Error(`Something listens on port ${port} already: set PORT to another one.`)
  await ensurePackages()
  say('building')
  await build()
  const amqpUrl = await findRabbitMq()
  await startGateway(amqpUrl)
  console.log(greeting())
} catch (error) {
  if (!ending) {
    console.error(`✗ ${/** @type {Error} */ (error).message}`)
    await end(1)
  }
}

/** A RabbitMQ that is reachable; failing that one of our own, by what the machine has. @returns {Promise<string>} */
async function findRabbitMq() {
  const given = process.env['AMQP_URL']
  const url = new URL((given ?? 'amqp://guest:guest@127.0.0.1:5672/').split(',', 1)[0] ?? '')
  const address = {
    port: Number(url.port || (url.protocol === 'amqps:' ? 5671 : 5672)),
    host: url.hostname.replace(/^\[|\]$/g, ''),
  }
  if (url.protocol === 'amqps:') return given ?? url.href
  if (await speaksAmqp(address.port, address.host)) {
    say(`using the RabbitMQ at ${address.host}:${address.port}`)
    return given ?? url.href
  }
  if (given) throw new Error(`There is no RabbitMQ at ${address.host}:${address.port}, where AMQP_URL says.`)
  if (!installedServer()) {
    if (await succeeds('docker', ['info'])) return startContainer()
    say('there is no RabbitMQ and no Docker here')
    await ensureSystemPackages(['rabbitmq-server'])
  }
  return startPrivate()
}

async function startPrivate() {
  const amqpPort = (await accepts(5672)) ? await freePort() : 5672
  say(`starting RabbitMQ as a private node in .run/broker, on port ${amqpPort}`)
  const broker = await startBroker({ dir: join(folder, 'broker'), amqpPort })
  endings.push(broker.stop)
  return broker.url
}

async function startContainer() {
  const amqpPort = (await accepts(5672)) ? await freePort() : 5672
  const name = `rabbitmq-http-gateway-quickstart-${process.pid}`
  say(`starting RabbitMQ in Docker, on port ${amqpPort}`)
  await run('docker', [
    'run',
    '--detach',
    '--rm',
    '--name',
    name,
    '--publish',
    `127.0.0.1:${amqpPort}:5672`,
    'rabbitmq:4-management',
  ])
  endings.push(() => run('docker', ['stop', name], { stdio: 'ignore' }))
  for (let i = 0; !(await speaksAmqp(amqpPort)); i++) {
    if (i > 120) throw new Error('RabbitMQ did not start in its container.')
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
  return `amqp://guest:guest@127.0.0.1:${amqpPort}/`
}

/** @param {string} amqpUrl */
async function startGateway(amqpUrl) {
  say('starting the gateway; its log is .run/gateway.log')
  const log = openSync(join(folder, 'gateway.log'), 'w')
  const gateway = spawn(process.execPath, ['dist/src/main.js'], {
    cwd: root,
    // Nobody waits long for the leases of a trial run when Ctrl-C is pressed.
    env: { SHUTDOWN_DRAIN: '1s', ...process.env, AMQP_URL: amqpUrl, HOST: host, PORT: port },
    stdio: ['ignore', log, log],
    detached: true, // Ctrl-C in the terminal is for this script, which ends the gateway before its broker
  })
  const exited = new Promise((resolve) => gateway.once('exit', resolve))
  endings.push(async () => {
    gateway.kill('SIGTERM')
    await exited
  })
  process.on('exit', () => gateway.kill('SIGKILL'))
  void exited.then(() => {
    if (ending) return
    console.error(`✗ the gateway ended by itself:\n${lastLog()}`)
    void end(1)
  })
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

const lastLog = () => readFileSync(join(folder, 'gateway.log'), 'utf8').split('\n').slice(-20).join('\n')

function greeting() {
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
Ctrl-C stops it${endings.length > 1 ? ' and its RabbitMQ' : ''}.
`
}
