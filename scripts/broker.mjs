// A private RabbitMQ node in a folder of its own, from the server that is installed: its own ports, name, cookie and port
// mapper, so that it meets no other node of the machine and leaves nothing behind.

import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join, resolve } from 'node:path'

const BIN = '/usr/lib/rabbitmq/bin'
const START_TIMEOUT = 120_000
const STOP_TIMEOUT = 20_000

/** Whether a rabbitmq-server is installed that can be started privately. */
export const installedServer = () => existsSync(join(BIN, 'rabbitmq-server'))

/**
 * @typedef {object} Broker
 * @property {string} url of AMQP, with credentials
 * @property {string} managementUrl with credentials
 * @property {string} dir
 * @property {string} node its name
 * @property {string} ctlPath an executable that is this node's rabbitmqctl
 * @property {(...args: string[]) => Promise<string>} ctl runs rabbitmqctl on this node and resolves with what it prints
 * @property {() => Promise<void>} start starts it again after stop() or kill(), on the same ports and data
 * @property {() => Promise<void>} stop ends it in order, within 20 seconds
 * @property {() => Promise<void>} kill ends it at once, as a crash would
 */

/**
 * Starts a node and waits until it accepts connections. It ends with this process, unless that is killed outright; the next
 * start in the same folder ends such a left-over first.
 * @param {object} options
 * @param {string} options.dir keeps the node's data, logs and configuration; made if it does not exist
 * @param {number} [options.amqpPort] a free one if not given
 * @param {number} [options.managementPort]
 * @param {string} [options.config] more lines for rabbitmq.conf
 * @param {string} [options.advanced] advanced.config, for what rabbitmq.conf has no word for
 * @param {string[]} [options.plugins] beside the management
 * @param {string} [options.root] a folder with another system's RabbitMQ, see unpackRabbitmq(); needs root
 * @param {string} [options.name] of the node, before its @
 * @param {number} [options.epmdPort] of a port mapper that runs already
 * @param {string} [options.cookie] what the nodes of a cluster share
 * @returns {Promise<Broker>}
 */
export async function startBroker(options) {
  if (!options.root && !installedServer()) throw new Error('rabbitmq-server is not installed')
  const dir = resolve(options.dir)
  endLeftOver(dir)
  const [amqpPort, managementPort, distributionPort, epmdPort] = await Promise.all([
    options.amqpPort ?? freePort(),
    options.managementPort ?? freePort(),
    freePort(),
    options.epmdPort ?? freePort(),
  ])
  for (const folder of ['home', 'data', 'log']) mkdirSync(join(dir, folder), { recursive: true })
  if (options.cookie) writeFileSync(join(dir, 'home', '.erlang.cookie'), options.cookie, { mode: 0o400 })
  writeFileSync(join(dir, 'enabled_plugins'), `[${['rabbitmq_management', ...(options.plugins ?? [])].join(', ')}].\n`)
  const lines = [
    `listeners.tcp.1 = 127.0.0.1:${amqpPort}`,
    `management.tcp.ip = 127.0.0.1`,
    `management.tcp.port = ${managementPort}`,
    'disk_free_limit.absolute = 50MB',
    options.config ?? '',
  ]
  writeFileSync(join(dir, 'rabbitmq.conf'), `${lines.join('\n')}\n`)
  writeFileSync(join(dir, 'advanced.config'), `${options.advanced ?? '[].'}\n`)
  const env = {
    PATH: process.env['PATH'] ?? '',
    LANG: 'C.UTF-8',
    HOME: join(dir, 'home'),
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    // The name stands in the data's path: the same at every start, so that the data is found again.
    RABBITMQ_NODENAME: `${options.name ?? 'gateway'}@localhost`,
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_MNESIA_BASE: join(dir, 'data'),
    RABBITMQ_LOG_BASE: join(dir, 'log'),
    RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(dir, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'enabled_plugins'),
    RABBITMQ_PID_FILE: join(dir, 'rabbitmq.pid'),
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
  }
  const ctlPath = join(dir, 'rabbitmqctl')
  const exports = Object.entries(env).map(([name, value]) => `export ${name}='${value}'`)
  const inside = options.root ? enter(options.root, dir) : []
  const quoted = inside.map((word) => `'${word}'`).join(' ')
  writeFileSync(ctlPath, `#!/bin/sh\n${exports.join('\n')}\nexec ${quoted} ${BIN}/rabbitmqctl "$@"\n`, { mode: 0o755 })

  /** @type {import('node:child_process').ChildProcess[]} */
  let children = []
  /** @type {(signal: NodeJS.Signals) => void} */
  const signalAll = (signal) => {
    for (const { pid } of children) if (pid !== undefined) signalGroup(pid, signal)
  }
  // The last moment at which a process can still act. A signal that nobody handles would end it without that moment.
  process.on('exit', () => signalAll('SIGKILL'))
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.once(signal, () => {
      if (process.listenerCount(signal) > 0) return
      signalAll('SIGKILL')
      process.kill(process.pid, signal)
    })
  }

  const start = async () => {
    /** @param {string} command @param {string[]} args @param {string} log */
    const launch = (command, args, log) => {
      const child = spawn('/bin/sh', ['-c', `exec "$@" >>'${join(dir, 'log', log)}' 2>&1`, 'sh', ...inside, command, ...args], {
        env,
        cwd: dir,
        detached: true, // a process group of its own: Ctrl-C in the terminal is for its parent to act on
        stdio: 'ignore',
      })
      children.push(child)
      return child
    }
    if (options.epmdPort === undefined) {
      launch('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1'], 'epmd.out')
      await until(
        () => accepts(epmdPort),
        START_TIMEOUT,
        () => 'the port mapper did not start',
      )
    }
    const server = launch(join(BIN, 'rabbitmq-server'), [], 'server.out')
    writeFileSync(join(dir, 'pids'), children.map(({ pid }) => pid).join('\n'))
    const dead = () => server.exitCode !== null || server.signalCode !== null
    await until(
      async () => {
        if (dead()) throw new Error(`RabbitMQ did not start:\n${tail(join(dir, 'log', 'server.out'))}`)
        return (await speaksAmqp(amqpPort)) && (await answers(managementPort))
      },
      START_TIMEOUT,
      () => `RabbitMQ did not start in time:\n${tail(join(dir, 'log', 'server.out'))}`,
    )
  }

  /** @param {NodeJS.Signals} signal */
  const end = async (signal) => {
    const server = children.at(-1)
    if (!server) return
    // The shell that started the node passes SIGTERM on as an orderly stop; SIGKILL has to reach the node itself.
    if (signal === 'SIGTERM' && server.pid !== undefined && server.exitCode === null) process.kill(server.pid, signal)
    else signalAll(signal)
    const gone = () => !groupAlive(server.pid)
    await until(gone, STOP_TIMEOUT, () => 'slow').catch(() => signalAll('SIGKILL'))
    signalAll('SIGKILL')
    await until(
      () => children.every(({ pid }) => !groupAlive(pid)),
      STOP_TIMEOUT,
      () => 'RabbitMQ does not end',
    )
    children = []
    rmSync(join(dir, 'pids'), { force: true })
  }

  await start()
  return {
    url: `amqp://guest:guest@127.0.0.1:${amqpPort}/`,
    managementUrl: `http://guest:guest@127.0.0.1:${managementPort}`,
    dir,
    node: env.RABBITMQ_NODENAME,
    ctlPath,
    ctl: (...args) =>
      new Promise((done, reject) => {
        execFile(ctlPath, args, (error, stdout, stderr) =>
          error ? reject(new Error(`${error.message}\n${stderr}`)) : done(stdout),
        )
      }),
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  }
}

/**
 * The command that runs another one inside of an unpacked system, where `dir` has the same path; its mounts are seen by nobody
 * else and go away with it.
 * @param {string} root @param {string} dir
 */
function enter(root, dir) {
  const script =
    'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mkdir -p "$0$1" && mount --bind "$1" "$0$1" && root=$0 && shift && exec chroot "$root" "$@"'
  return ['unshare', '-m', '--propagation', 'private', '/bin/sh', '-c', script, root, dir]
}

/**
 * Whether RabbitMQ answers there: it opens the handshake, which nothing else on that port would.
 * @param {number} port
 * @param {string} [host]
 * @returns {Promise<boolean>}
 */
export function speaksAmqp(port, host = '127.0.0.1') {
  return new Promise((done) => {
    const socket = connect({ port, host })
    const finish = (/** @type {boolean} */ result) => {
      socket.destroy()
      done(result)
    }
    socket.setTimeout(2000, () => finish(false))
    socket.once('error', () => finish(false))
    socket.once('connect', () => socket.write(Buffer.from('AMQP\x00\x00\x09\x01', 'latin1')))
    socket.once('data', (bytes) => finish(bytes[0] === 1)) // a method frame: connection.start
    socket.once('end', () => finish(false))
  })
}

/** A port of this machine that nobody listens on. @returns {Promise<number>} */
export function freePort() {
  return new Promise((done, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => done(typeof address === 'object' && address ? address.port : 0))
    })
  })
}

/** @param {number} port @returns {Promise<boolean>} */
export function accepts(port) {
  return new Promise((done) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => {
      socket.destroy()
      done(true)
    })
    socket.once('error', () => done(false))
  })
}

/** @param {number} port */
const answers = (port) =>
  fetch(`http://127.0.0.1:${port}/api/overview`, { headers: { authorization: `Basic ${btoa('guest:guest')}` } }).then(
    ({ ok }) => ok,
    () => false,
  )

/** @param {() => boolean | Promise<boolean>} check @param {number} timeout @param {() => string} complaint */
async function until(check, timeout, complaint) {
  const end = Date.now() + timeout
  while (!(await check())) {
    if (Date.now() > end) throw new Error(complaint())
    await new Promise((done) => setTimeout(done, 100))
  }
}

/** @param {number} pid @param {NodeJS.Signals | 0} signal */
function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal)
    return true
  } catch {
    return false
  }
}

/**
 * Whether a process of that group still runs. A zombie does not: in a container its parent may never wait for it.
 * @param {number | undefined} group
 */
function groupAlive(group) {
  if (group === undefined || !signalGroup(group, 0)) return false
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        // pid (name) state ppid pgrp; the name may have anything in it
        const [state, , pgrp] = readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ')
        return Number(pgrp) === group && state !== 'Z'
      } catch {
        return false // it ended meanwhile
      }
    })
}

/** Ends the node that a killed run left behind in this folder. @param {string} dir */
function endLeftOver(dir) {
  const file = join(dir, 'pids')
  if (!existsSync(file)) return
  for (const pid of readFileSync(file, 'utf8').split('\n').map(Number)) {
    let environment = ''
    try {
      environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
    } catch {
      continue
    }
    if (environment.includes(join(dir, 'data'))) signalGroup(pid, 'SIGKILL')
  }
  rmSync(file)
}

/** @param {string} file */
const tail = (file) => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(-30).join('\n') : '')
