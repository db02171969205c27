// Servers as separate processes, so that their processor time and memory can be told from those of the load.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HEAP_REQUEST } from './gc-probe.js'

export interface Server {
  url: string
  pid: number
  /** When it became ready, in microseconds of the system's monotonic clock. */
  readyAt: number
  /** Collects its garbage and resolves with the bytes of its remaining objects and buffers. */
  heldBytes: () => Promise<number>
  /** Sends SIGTERM, and SIGKILL after 10 s. Resolves when the process has ended. */
  stop: () => Promise<void>
}

const START_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 10_000
/** The unit of `utime` and `stime` in /proc/<pid>/stat: 1/100 s on every Linux that Node supports. */
const MICROSECONDS_PER_TICK = 10_000

/**
 * Starts a Node program that prints the URL it listens on, and resolves when a GET of `path` succeeds.
 * @param options.folder the working directory
 * @param options.args the program and its arguments, after any options of Node itself
 * @param options.workers the number of its processes that have to listen; 1 by default
 * @throws Error with its output if it exits or is not ready within 20 s
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
    await Promise.race([exited, sleep(STOP_TIMEOUT_MS, undefined, { ref: false })])
    kill()
  }
  try {
    const url = await waitUntilListening(child, () => output, options)
    const heldBytes = async () => {
      child.send(HEAP_REQUEST)
      const [bytes] = (await once(child, 'message')) as [number]
      return bytes
    }
    return { url, pid: child.pid!, readyAt: Number(process.hrtime.bigint() / 1000n), heldBytes, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function waitUntilListening(
  child: ChildProcess,
  output: () => string,
  { path, workers = 1 }: { path: string; workers?: number },
): Promise<string> {
  const end = Date.now() + START_TIMEOUT_MS
  for (;;) {
    const urls = [...output().matchAll(/listening (?:at|on) (http:\/\/[\d.:]+)/gi)].map(([, url]) => url!)
    if (urls.length >= workers && (await isOk(urls[0]! + path))) return urls[0]!
    if (child.exitCode !== null || Date.now() > end) throw new Error(`a server did not start. Its output:\n${output()}`)
    await sleep(25)
  }
}

const isOk = (url: string) =>
  fetch(url).then(
    ({ ok }) => ok,
    () => false,
  )

/** The processor time that these processes and their children have used since they started, in microseconds (steps of 10 ms). */
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

/** The resident memory of these processes and their children, in bytes: the current value, or the sum of their peaks. */
export function memory(pids: readonly number[], what: 'now' | 'peak' = 'now'): number {
  const field = what === 'now' ? /^VmRSS:\s+(\d+) kB/m : /^VmHWM:\s+(\d+) kB/m
  let bytes = 0
  for (const pid of pids.flatMap(withChildren))
    bytes += Number(field.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
  return bytes
}

/** The process and, as a server may have workers, all its descendants. */
function withChildren(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
  return [pid, ...children.flatMap((child) => withChildren(Number(child)))]
}
