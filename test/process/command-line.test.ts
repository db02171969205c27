// The command line of the program.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, describe, it } from 'node:test'
import { createAuthority } from '../support/certificates.js'
import { AMQP_URL } from '../support/gateway.js'
import { listeningGateway } from '../support/process.js'

const folder = mkdtempSync(join(tmpdir(), 'gateway-command-line-'))
after(() => rmSync(folder, { recursive: true }))

/** Runs the program to its end, in a folder of its own. */
function run(args: string[], env: NodeJS.ProcessEnv = {}): Promise<{ code: number | null; out: string; err: string }> {
  const options = { cwd: folder, env: { PATH: process.env['PATH'], AMQP_URL, LOG_LEVEL: 'silent', ...env } }
  const child = spawn(process.execPath, [resolve('dist/src/main.js'), ...args], options)
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  return new Promise((done) => child.once('close', (code) => done({ code, out, err })))
}

describe('command line', () => {
  it('--help and --version print and succeed', async () => {
    const help = await run(['--help'])
    assert.deepEqual([help.code, help.err], [0, ''])
    assert.match(help.out, /health/)
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    assert.deepEqual(await run(['--version']), { code: 0, out: `${version}\n`, err: '' })
  })

  it('an unknown command or option is refused with one sentence and exit code 64', async () => {
    for (const args of [['--port=1'], ['serv'], ['serve', '--port=1']]) {
      const { code, out, err } = await run(args)
      assert.deepEqual([code, out, err.trim().split('\n').length], [64, '', 1])
      assert.match(err, /--help/)
    }
  })

  it('key makes an API key, and explains itself without its options', async () => {
    const { code, out } = await run(['key', '--name', 'worker', '--right', 'read:%2F/orders'])
    assert.equal(code, 0)
    assert.match(out, /rhg_[\w-]{43}\n/)
    const usage = await run(['key'])
    assert.equal(usage.code, 64)
    assert.match(usage.err, /--right/)
  })

  it('a taken port ends the program with one sentence and exit code 1', async () => {
    const { port } = new URL((await listeningGateway({})).url)
    const { code, err } = await run([], { PORT: port })
    assert.equal(code, 1)
    assert.deepEqual(err.trim().split('\n').length, 1, err)
    assert.match(err, new RegExp(`127\\.0\\.0\\.1:${port}`))
  })

  it('a file .env has settings, and variables of the environment win over it', async () => {
    writeFileSync(join(folder, '.env'), 'PORT=eighty\nMAX_STREAMS=many\n')
    const { code, err } = await run([], { PORT: '0' })
    rmSync(join(folder, '.env'))
    assert.equal(code, 78)
    assert.match(err, /MAX_STREAMS/)
    assert.doesNotMatch(err, /\bPORT\b/)
  })
})

describe('health command', () => {
  it('health succeeds for a gateway that lives, and fails if nothing listens', async () => {
    const { port } = new URL((await listeningGateway({})).url)
    assert.equal((await run(['health'], { PORT: port })).code, 0)
    const { code, err } = await run(['health'], { PORT: '9' })
    assert.equal(code, 1)
    assert.match(err, /not alive/)
  })

  it('health succeeds over TLS, and with client certificates', async () => {
    const authority = createAuthority()
    const server = authority.issue('gateway')
    for (const mutual of [{}, { TLS_CLIENT_CA_FILE: authority.cert }]) {
      const tls = { TLS_CERT_FILE: server.cert, TLS_KEY_FILE: server.key, ...mutual }
      const { port } = new URL((await listeningGateway(tls)).url)
      assert.equal((await run(['health'], { PORT: port, ...tls })).code, 0)
    }
  })
})

describe('SIGHUP', () => {
  it('a gateway without a terminal and without files to read again survives SIGHUP', async () => {
    for (const env of [{}, { WORKERS: '2' }]) {
      const gateway = await listeningGateway({ AMQP_URL, ...env })
      gateway.child.kill('SIGHUP')
      assert.equal((await fetch(`${gateway.url}/health/live`)).status, 200)
      gateway.child.kill('SIGTERM')
      assert.equal(await gateway.exited, 0)
      assert.match(gateway.output(), /"signal":"SIGTERM"/)
      assert.doesNotMatch(gateway.output(), /SIGHUP/)
    }
  })
})
