// The gateway as a process of its own, as an operator runs it.

import { type ChildProcess, spawn } from 'node:child_process'
import { after } from 'node:test'
import { eventually } from './eventually.js'

export interface GatewayProcess {
  child: ChildProcess
  url: string
  /** Everything it has printed. */
  output: () => string
  /** Its exit code, or the signal that ended it. */
  exited: Promise<number | string>
}

/** Starts `dist/src/main.js`, without waiting for anything. It is killed after the test. */
export function spawnGateway(env: Record<string, string>): GatewayProcess {
  const child = spawn(process.execPath, ['dist/src/main.js'], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
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

/** Starts it on a free port and waits until it listens. */
export async function listeningGateway(env: Record<string, string>): Promise<GatewayProcess> {
  const gateway = spawnGateway({ PORT: '0', ...env })
  await eventually(() => {
    const url = /Server listening at (http:\/\/[\d.:]+)/.exec(gateway.output())
    if (!url) throw new Error(`it does not listen: ${gateway.output()}`)
    gateway.url = url[1]!
  }, 30_000)
  return gateway
}

/** Starts it and waits until it is ready. */
export async function readyGateway(env: Record<string, string>): Promise<GatewayProcess> {
  const gateway = await listeningGateway(env)
  await eventually(async () => {
    const ready = await fetch(`${gateway.url}/health/ready`)
    if (!ready.ok) throw new Error(await ready.text())
  }, 30_000)
  return gateway
}
