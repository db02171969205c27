// The programs in examples/, as processes.

import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { after } from 'node:test'

export interface Program {
  child: ChildProcess
  /** Its standard output and error so far. */
  printed: () => string
  /** Resolves with the exit code, or null after a signal. */
  exited: Promise<number | null>
}

/** Starts a program of examples/ with `input` as its standard input. It is killed after the test. */
export function runExample(file: string, args: string[], env: Record<string, string>, input = ''): Program {
  const child = spawn(join('examples', file), args, { env: { PATH: process.env['PATH'], ...env } })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  child.stderr.on('data', (chunk) => {
    text += chunk
  })
  child.stdin.end(input)
  after(() => child.kill('SIGKILL'))
  return { child, printed: () => text, exited: new Promise((resolve) => child.once('exit', resolve)) }
}
