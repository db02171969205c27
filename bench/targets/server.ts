// Servers as processes of their own, so that what they use of processor and memory can be told apart from the load.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { QUESTION } from './gc-probe.js'

export interface Server {
  url: string
  pid: number
  /** When it was ready, in microseconds of the system's monotonic clock. */
  readyAt: number
  /** Collects its garbage and resolves with the bytes that its objects and buffers still hold. */
  held: () => Promise<number>
  stop: () => Promise<void>
}

const START_TIMEOUT = 20_000
const STOP_TIMEOUT = 10_000
/** Of `utime` and `stime` in /proc/<pid>/stat: 100 a second on every Linux that Node runs on. */
const MICROSECONDS_PER_TICK = 10_000

/**
 * Starts a Node program that prints where it listens, and waits until `path` answers 200.
 * @param options.folder where its project is
 * @param options.args the program and what belongs to it; node's own options may stand before
 * @param options.workers how many processes of it have to listen, 1 unless given
 */
export async function startServer(options: {
  folder: string
  args: string[]
  path: string
  env?: Record<string, string>
  workers?: number
}): Promise<Server> {
  const args = ['--import', join(import.meta.dirname, 'gc-probe.js'), ...options.args]
  const child = spawn(process.execPath, args, {
    cwd: options.folder,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let output = ''
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-20_000)
    })
  }
  const kill = () => child.kill('SIGKILL')
  process.on('exit', kill)
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async () => {
    process.off('exit', kill)
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await Promise.race([exited, sleep(STOP_TIMEOUT, undefined, { ref: false })])
    kill()
  }
  try {
    const url = await listening(child, () => output, options)
    const held = async () => {
      child.send(QUESTION)
      const [bytes] = (await once(child, 'message')) as [number]
      return bytes
    }
    return { url, pid: child.pid!, readyAt: Number(process.hrtime.bigint() / 1000n), held, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function listening(
  child: ChildProcess,
  output: () => string,
  { path, workers = 1 }: { path: string; workers?: number },
): Promise<string> {
  const end = Date.now() + START_TIMEOUT
  for (;;) {
    const urls = [...output().matchAll(/listening (?:at|on) (http:\/\/[\d.:]+)/gi)].map(([, url]) => url!)
    if (urls.length >= workers && (await answers(urls[0]! + path))) return urls[0]!
    if (child.exitCode !== null || Date.now() > end) throw new Error(`a server did not start:\n${output()}`)
    await sleep(25)
  }
}

const answers = (url: string) =>
  fetch(url).then(
    ({ ok }) => ok,
    () => false,
  )

/** Processor time that these processes and their children have used so far, in microseconds, to 10 milliseconds. */
export function processorTime(pids: readonly number[]): number {
  let ticks = 0
  for (const pid of pids.flatMap(withChildren)) {
    // pid (name) state ppid …: utime and stime are the 14th and 15th; the name may have anything in it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    ticks += Number(fields[11]) + Number(fields[12])
  }
  return ticks * MICROSECONDS_PER_TICK
}

/** Bytes of memory that these processes and their children hold, or have held at most since they started. */
export function memory(pids: readonly number[], what: 'now' | 'peak' = 'now'): number {
  const field = what === 'now' ? /^VmRSS:\s+(\d+) kB/m : /^VmHWM:\s+(\d+) kB/m
  let bytes = 0
  for (const pid of pids.flatMap(withChildren))
    bytes += Number(field.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
  return bytes
}

/** Workers of a server are processes too. */
function withChildren(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
  return [pid, ...children.flatMap((child) => withChildren(Number(child)))]
}
