// The programs in examples/, as processes.

import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { after } from 'node:test'

export interface Program {
  child: ChildProcess
  /** Everything on its standard output and error. */
  printed: () => string
  exited: Promise<number | null>
}

/** Starts an example. It is killed after the test. */
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
