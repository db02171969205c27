// A log that cannot be written: it holds up neither the service nor the end of the process.

import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { after, describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { freshFile } from '../support/files.js'
import { AMQP_URL } from '../support/gateway.js'
import { endWithTheRun } from '../support/process.js'

const MAIN = resolve('dist/src/main.js')

/** More than a pipe and the gateway's own buffer hold. */
/** Twice as much as one process keeps for a slow reader. */
const LOG_BYTES = 2 * 1024 * 1024
const LONG_PATH = `/queues/${'x'.repeat(2000)}`

interface Gateway {
  child: ChildProcess
  url: string
  exited: Promise<number | string>
}

/** Starts a gateway that logs every request to a descriptor, and resolves when it is live. */
async function startLoggingTo(stdout: number | 'pipe', workers: string): Promise<Gateway> {
  const env = await environment(workers)
  const child = spawn(process.execPath, [MAIN], { cwd: tmpdir(), env, stdio: ['ignore', stdout, 'ignore'] })
  if (typeof stdout === 'number') closeSync(stdout)
  return watch(child, env['PORT']!)
}

async function environment(workers: string): Promise<Record<string, string>> {
  const env = { AMQP_URL, WORKERS: workers, LOG_REQUESTS: 'all', SHUTDOWN_DRAIN: '1s' }
  return { PATH: process.env['PATH'] ?? '', PORT: String(await freePort()), ...env }
}

async function watch(child: ChildProcess, port: string): Promise<Gateway> {
  endWithTheRun(child)
  after(() => child.kill('SIGKILL'))
  const url = `http://127.0.0.1:${port}`
  const exited = new Promise<number | string>((done) => child.once('exit', (code, signal) => done(code ?? signal!)))
  await eventually(async () => assert.equal((await fetch(`${url}/health/live`)).status, 200), 60_000)
  return { child, url, exited }
}

/** Makes the gateway write more than fits anywhere. Every request is answered. */
async function logMuch(url: string, workers = '1'): Promise<void> {
  for (let bytes = 0; bytes < LOG_BYTES * Number(workers); bytes += 20 * LONG_PATH.length) {
    const statuses = await Promise.all(Array.from({ length: 20 }, async () => (await fetch(url + LONG_PATH)).status))
    assert.deepEqual([...new Set(statuses)], [400])
  }
}

async function droppedLines(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/^gateway_log_lines_dropped_total (\d+)$/m.exec(text)?.[1])
}

async function endsInTime({ exited }: Gateway, signal: () => void): Promise<void> {
  const begun = performance.now()
  signal()
  assert.equal(await exited, 0)
  const took = performance.now() - begun
  assert.ok(took < 16_000, `it took ${took} ms to end`)
}

/** A named pipe. */
function freshPipe(): string {
  const path = join(dirname(freshFile('x', '')), 'pipe')
  execFileSync('mkfifo', [path])
  return path
}

const openReader = (path: string) => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)

for (const workers of ['1', '2']) {
  describe(`a gateway with WORKERS=${workers} whose log cannot be written`, () => {
    it('serves, counts the lines that it drops, and ends on SIGTERM when the disk is full', async () => {
      const gateway = await startLoggingTo(openSync('/dev/full', 'w'), workers)
      await logMuch(gateway.url, workers)
      assert.ok((await droppedLines(gateway.url)) > 100)
      await endsInTime(gateway, () => gateway.child.kill('SIGTERM'))
    })

    it('does so when nobody reads the pipe', async () => {
      const path = freshPipe()
      const reader = openReader(path)
      const gateway = await startLoggingTo(openSync(path, 'w'), workers)
      await logMuch(gateway.url, workers)
      assert.ok((await droppedLines(gateway.url)) > 100)
      await endsInTime(gateway, () => gateway.child.kill('SIGTERM'))
      closeSync(reader)
    })

    it('does so when its terminal is gone', async () => {
      const env = await environment(workers)
      const holder = spawn('python3', ['-c', TERMINAL, process.execPath, MAIN], {
        cwd: tmpdir(),
        env,
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      const gateway = await watch(holder, env['PORT']!)
      holder.stdin.write('close\n')
      await new Promise((resolve) => holder.stdout.once('data', resolve))
      await logMuch(gateway.url, workers)
      assert.ok((await droppedLines(gateway.url)) > 100)
      await endsInTime(gateway, () => holder.stdin.write('term\n'))
    })
  })
}

describe('a gateway whose log comes back', () => {
  it('writes again when the pipe has another reader, with no line in pieces', async () => {
    const path = freshPipe()
    const first = openReader(path)
    const gateway = await startLoggingTo(openSync(path, 'w'), '1')
    closeSync(first)
    await logMuch(gateway.url)
    const dropped = await droppedLines(gateway.url)
    assert.ok(dropped > 100)

    let text = ''
    const second = new Socket({ fd: openReader(path), readable: true, writable: false })
    second.on('data', (chunk) => {
      text += chunk
    })
    await fetch(`${gateway.url}/queues/again`)
    await eventually(() => assert.match(text, /"path":"\/queues\/again".*\n/))
    for (const line of text.trim().split('\n')) JSON.parse(line)
    await endsInTime(gateway, () => gateway.child.kill('SIGTERM'))
    second.destroy()
  })

  it('writes what waited when a slow reader goes on, with no line in pieces', async () => {
    // Node gives its children a socket as standard output, which cannot be opened again.
    const gateway = await startLoggingTo('pipe', '1')
    await logMuch(gateway.url)
    assert.ok((await droppedLines(gateway.url)) > 100)
    let text = ''
    gateway.child.stdout!.on('data', (chunk) => {
      text += chunk
    })
    await eventually(async () => {
      await fetch(`${gateway.url}/queues/again`)
      assert.match(text, /"path":"\/queues\/again".*\n/)
    })
    const lines = text.slice(0, text.lastIndexOf('\n')).split('\n')
    assert.ok(lines.filter((line) => line.includes(LONG_PATH)).length > 100)
    for (const line of lines) JSON.parse(line)
    await endsInTime(gateway, () => gateway.child.kill('SIGTERM'))
  })
})

/** Runs a program on a terminal of its own, closes the terminal when told to, and exits as the program did. */
const TERMINAL = `
import os, pty, select, subprocess, sys
master, slave = pty.openpty()
program = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
os.close(slave)
is_open = True
while program.poll() == None:
    ready, _, _ = select.select([0] + [master] * is_open, [], [], 0.1)
    if is_open and master in ready:
        os.read(master, 65536)
    if 0 in ready:
        order = os.read(0, 100)
        if order.startswith(b'close'):
            os.close(master)
            is_open = False
            print('closed', flush=True)
        elif order.startswith(b'term'):
            program.terminate()
sys.exit(program.returncode if program.returncode >= 0 else 128 - program.returncode)
`
