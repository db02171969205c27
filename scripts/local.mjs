// What quickstart and dev share: a RabbitMQ to use, a gateway that runs until it is stopped, and the order in which they end.
// Node alone, no packages: it is imported before there are any.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { accepts, freePort, installedServer, speaksAmqp, startBroker } from './broker.mjs'
import { ensureSystemPackages, root, run, say, succeeds } from './project.mjs'

/** The folder for logs and for the broker's data. */
export const runFolder = join(root, '.run')

export const host = process.env['HOST'] || '127.0.0.1'
export const port = process.env['PORT'] || '8080'
const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host

/** The gateway's address, for a client on this machine. */
export const base = `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}`

/** What to end, the last started first. @type {(() => Promise<void>)[]} */
const endings = []
let ending = false

/** Adds something to end, before all that was added earlier. @param {() => Promise<void>} one */
export const atEnd = (one) => void endings.push(one)

/** Whether the script is already ending what it started. */
export const isEnding = () => ending

/**
 * Ends what was started, the last first, and then the process. A second call exits at once.
 * @param {number} code
 */
export async function end(code) {
  if (ending) process.exit(130)
  ending = true
  for (const one of endings.reverse()) await one().catch((error) => console.error(error.message))
  process.exit(code)
}

/**
 * Runs a script until it fails or until Ctrl-C, and then ends what it started.
 * @param {() => Promise<void>} start resolves when all runs
 */
export async function runUntilStopped(start) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (!ending) say('stopping')
      void end(0)
    })
  }
  try {
    mkdirSync(runFolder, { recursive: true })
    if (await accepts(Number(port))) throw new Error(`Port ${port} is in use: set PORT to another one.`)
    await start()
  } catch (error) {
    if (ending) return
    console.error(`✗ ${/** @type {Error} */ (error).message}`)
    await end(1)
  }
}

/**
 * The gateway's process: it is stopped with the script, and the script ends if the gateway does.
 * @param {import('node:child_process').ChildProcess} gateway
 * @param {() => string} [lastLog] what to print if the gateway ends by itself
 */
export function endWithGateway(gateway, lastLog = () => '') {
  const exited = new Promise((resolve) => gateway.once('exit', resolve))
  atEnd(async () => {
    gateway.kill('SIGTERM')
    await exited
  })
  process.on('exit', () => gateway.kill('SIGKILL'))
  void exited.then(() => {
    if (ending) return
    console.error(`✗ the gateway ended by itself\n${lastLog()}`)
    void end(1)
  })
}

/**
 * The URL of a reachable RabbitMQ: the one of AMQP_URL or on port 5672, else one that is started as the machine allows.
 * @param {string} name of the folder in .run/ for a private node's data
 * @returns {Promise<{ url: string, own: boolean }>} `own`: it was started here and is stopped at the end
 */
export async function findRabbitMq(name) {
  const given = process.env['AMQP_URL']
  const url = new URL((given ?? 'amqp://guest:guest@127.0.0.1:5672/').split(',', 1)[0] ?? '')
  const address = {
    port: Number(url.port || (url.protocol === 'amqps:' ? 5671 : 5672)),
    host: url.hostname.replace(/^\[|\]$/g, ''),
  }
  if (url.protocol === 'amqps:') return { url: given ?? url.href, own: false }
  if (await speaksAmqp(address.port, address.host)) {
    say(`using the RabbitMQ at ${address.host}:${address.port}`)
    return { url: given ?? url.href, own: false }
  }
  if (given) throw new Error(`No RabbitMQ answers at ${address.host}:${address.port}, the address in AMQP_URL.`)
  if (!installedServer()) {
    if (await succeeds('docker', ['info'])) return { url: await startContainer(name), own: true }
    say('this machine has no RabbitMQ and no Docker')
    await ensureSystemPackages(['rabbitmq-server'])
  }
  return { url: await startPrivate(name), own: true }
}

/** @param {string} name */
async function startPrivate(name) {
  const amqpPort = (await accepts(5672)) ? await freePort() : 5672
  say(`starting RabbitMQ as a private node in .run/${name}, on port ${amqpPort}`)
  const broker = await startBroker({ dir: join(runFolder, name), amqpPort })
  atEnd(broker.stop)
  return broker.url
}

/** @param {string} folder */
async function startContainer(folder) {
  const amqpPort = (await accepts(5672)) ? await freePort() : 5672
  const name = `rabbitmq-http-gateway-${folder}-${process.pid}`
  const published = `127.0.0.1:${amqpPort}:5672`
  say(`starting RabbitMQ in Docker, on port ${amqpPort}`)
  await run('docker', ['run', '--detach', '--rm', '--name', name, '--publish', published, 'rabbitmq:4-management'])
  atEnd(() => run('docker', ['stop', name], { stdio: 'ignore' }))
  for (let i = 0; !(await speaksAmqp(amqpPort)); i++) {
    if (i > 120) throw new Error('RabbitMQ did not start in its container.')
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
  return `amqp://guest:guest@127.0.0.1:${amqpPort}/`
}
