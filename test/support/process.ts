// The gateway as a process, as an operator runs it.

import { type ChildProcess, spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { after } from 'node:test'
import { eventually } from './eventually.js'

export interface GatewayProcess {
  child: ChildProcess
  url: string
  /** Its standard output and error so far. */
  output: () => string
  /** Resolves with its exit code, or the name of the signal that ended it. */
  exited: Promise<number | string>
}

const children = new Set<ChildProcess>()
let isWatching = false

/** Kills a process that a test started when the run is stopped: hooks do not run then. */
export function endWithTheRun(child: ChildProcess): void {
  if (!isWatching) {
    isWatching = true
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.once(signal, () => {
        for (const one of children) one.kill('SIGKILL')
        process.exit(1)
      })
    }
  }
  children.add(child)
  child.once('exit', () => children.delete(child))
}

/** Starts dist/src/main.js without waiting for anything; `url` is empty. It is killed after the test. */
export function spawnGateway(env: Record<string, string>): GatewayProcess {
  const child = spawn(process.execPath, [resolve('dist/src/main.js')], {
    cwd: tmpdir(), // a developer's .env has no say in tests
    env: { PATH: process.env['PATH'], SHUTDOWN_DELAY: '0s', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  endWithTheRun(child)
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  const exited = new Promise<number | string>((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal!)))
  after(() => {
    child.kill('SIGKILL')
  })
  return { child, url: '', output: () => output, exited }
}

/** Starts it on a free port, or on PORT if that is set, and resolves when it listens. @throws Error with its output after 30 s */
export async function listeningGateway(env: Record<string, string>): Promise<GatewayProcess> {
  const gateway = spawnGateway({ PORT: '0', ...env })
  await eventually(() => {
    const url = /Server listening at (https?:\/\/[\d.:[\]]+)/.exec(gateway.output())
    if (!url) throw new Error(`the gateway does not listen: ${gateway.output()}`)
    gateway.url = url[1]!
  }, 30_000)
  return gateway
}

/** Starts it and resolves when /health/ready answers 200. @throws Error with the reason after 30 s */
export async function readyGateway(env: Record<string, string>): Promise<GatewayProcess> {
  const gateway = await listeningGateway(env)
  await eventually(async () => {
    const ready = await fetch(`${gateway.url}/health/ready`)
    if (!ready.ok) throw new Error(await ready.text())
  }, 30_000)
  return gateway
}
