// The process with authentication: its key file, its log, its signals, and the command that creates a key.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { KeyFile } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshFile, replaceFile } from '../support/files.js'
import { AMQP_URL } from '../support/gateway.js'
import { AUDIENCE, ISSUER, inSeconds, keySetFile, newKey, token } from '../support/issuer.js'
import { type GatewayProcess, readyGateway, spawnGateway } from '../support/process.js'

const run = promisify(execFile)
const logLines = ({ output }: GatewayProcess): Record<string, unknown>[] =>
  output()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line))
/** The lines about refused requests, which have the detail of the problem. */
const refusals = (gateway: GatewayProcess) => logLines(gateway).filter((line) => 'detail' in line && 'code' in line)
const status = async (url: string, key: string) =>
  (await fetch(`${url}/queues/nowhere`, { headers: { authorization: `Bearer ${key}` } })).status

describe('process with API keys', () => {
  it('a process with mistakes in its key file lists all of them and exits with 78', async () => {
    const API_KEYS_FILE = freshFile('keys.json', '{"keys": [{"name": "a", "sha256": "x"}, 1]}')
    const gateway = spawnGateway({ AUTH: 'keys', API_KEYS_FILE, PORT: '0' })
    assert.equal(await gateway.exited, 78)
    for (const place of ['keys[0].sha256', 'keys[0].rights', 'keys[1]'])
      assert.ok(gateway.output().includes(place), gateway.output())
    const missing = spawnGateway({ AUTH: 'keys', API_KEYS_FILE: `${API_KEYS_FILE}.nowhere`, PORT: '0' })
    assert.equal(await missing.exited, 78)
    assert.match(missing.output(), /ENOENT/)
  })

  it('a process with API keys may listen on a public address', async () => {
    const file = new KeyFile()
    const gateway = await readyGateway({ AMQP_URL, HOST: '0.0.0.0', AUTH: 'keys', API_KEYS_FILE: file.path })
    assert.equal((await fetch(`${gateway.url}/queues/nowhere`)).status, 401)
  })

  it('a process reads its keys again on SIGHUP, and logs mistakes while the previous keys stay valid', async () => {
    const file = new KeyFile()
    const first = file.add(['read:*/*'])
    const gateway = await readyGateway({ AMQP_URL, AUTH: 'keys', API_KEYS_FILE: file.path })
    assert.equal(await status(gateway.url, first), 404)
    const second = file.add(['read:*/*'])
    gateway.child.kill('SIGHUP')
    await eventually(async () => assert.equal(await status(gateway.url, second), 404))
    replaceFile(file.path, '{"keys": [7]}')
    gateway.child.kill('SIGHUP')
    await eventually(() => assert.match(gateway.output(), /keys\[0\]/))
    assert.equal(await status(gateway.url, second), 404)
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
  })

  it('all workers of a process read the keys again on SIGHUP', async () => {
    const file = new KeyFile()
    const gateway = await readyGateway({ AMQP_URL, WORKERS: '2', AUTH: 'keys', API_KEYS_FILE: file.path })
    await eventually(() => assert.equal(gateway.output().match(/Server listening/g)?.length, 2), 30_000)
    // The file does not change, so the workers read it only because of the signal.
    gateway.child.kill('SIGHUP')
    await eventually(() => {
      const reads = logLines(gateway).filter(({ file: path, keys }) => path === file.path && typeof keys === 'number')
      assert.equal(new Set(reads.map(({ pid }) => pid)).size, 2)
    })
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
  })

  it('a refused request is logged with its identity, address and reason, and never with a key', async () => {
    const file = new KeyFile()
    const key = file.add(['read:%2F/mine'], { name: 'orders-worker' })
    const gateway = await readyGateway({
      AMQP_URL,
      AUTH: 'keys',
      API_KEYS_FILE: file.path,
      LOG_REQUESTS: 'all',
      LOG_LEVEL: 'trace',
    })
    assert.equal(await status(gateway.url, key), 403)
    assert.equal(await status(gateway.url, `${key}x`), 401)
    const basic = Buffer.from(`someone:${key}y`).toString('base64')
    await fetch(`${gateway.url}/queues/mine`, { headers: { authorization: `Basic ${basic}` } })
    await fetch(`${gateway.url}/queues/mine`, { headers: { authorization: key } })
    await fetch(`${gateway.url}/queues/mine?key=abc`)
    const lines = await eventually(() => {
      const found = refusals(gateway)
      assert.equal(found.length, 5)
      return found
    })
    const [forbidden, unknown] = lines
    assert.deepEqual(
      [forbidden!['status'], forbidden!['code'], forbidden!['identity']],
      [403, 'access_refused', 'key orders-worker'],
    )
    assert.deepEqual([unknown!['status'], unknown!['code'], unknown!['identity']], [401, 'unauthorized', undefined])
    for (const { address, request_id, path, detail } of lines) {
      assert.equal(address, '127.0.0.1')
      assert.ok(request_id && detail)
      assert.doesNotMatch(String(path), /\?/)
    }
    await eventually(() => assert.equal(gateway.output().match(/"path":"\/queues\/mine",.*"msg":"request"/g)?.length, 3))
    for (const secret of [key, basic, file.entries[0]!.sha256, 'key=abc']) assert.ok(!gateway.output().includes(secret))
  })
})

describe('process with tokens', () => {
  const SETTINGS = { AMQP_URL, AUTH: 'jwt', JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }

  it('a process with an invalid JWKS file prints the mistake and exits with 78', async () => {
    for (const [text, mistake] of [
      ['{', /JSON/],
      ['{"keys": 1}', /object/],
      ['{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', /RSA/],
    ] as const) {
      const gateway = spawnGateway({ ...SETTINGS, JWT_JWKS_FILE: freshFile('jwks.json', text), PORT: '0' })
      assert.equal(await gateway.exited, 78)
      assert.match(gateway.output(), mistake)
      assert.ok(!gateway.output().includes('c2VjcmV0'))
    }
  })

  it('a refused token is logged with its identity and never with the token', async () => {
    const key = await newKey('first')
    const gateway = await readyGateway({
      ...SETTINGS,
      JWT_JWKS_FILE: keySetFile(key).path,
      LOG_REQUESTS: 'all',
      LOG_LEVEL: 'trace',
    })
    const tokens = [
      await token(key, 'read:%2F/mine'),
      await token(key, 'read:*/*', { exp: inSeconds(-10) }),
      await token(await newKey('first'), 'read:*/*'),
    ]
    assert.deepEqual(await Promise.all(tokens.map((one) => status(gateway.url, one))), [403, 401, 401])
    await eventually(() => assert.equal(refusals(gateway).length, 3))
    assert.match(gateway.output(), /"identity":"token worker-1"/)
    for (const one of tokens) for (const part of one.split('.').slice(1)) assert.ok(!gateway.output().includes(part))
  })
})

describe('npm run key', () => {
  it('npm run key prints a key that works and its entry for the key file', async () => {
    const { stdout } = await run('npm', ['run', '--silent', 'key', '--', '--name', 'worker', '--right', 'read:%2F/*'])
    const key = /^rhg_\S+$/m.exec(stdout)![0]
    const entry = stdout.slice(stdout.indexOf('\n{'))
    const API_KEYS_FILE = freshFile('keys.json', `{"keys": [${entry}]}`)
    const gateway = await readyGateway({ AMQP_URL, AUTH: 'keys', API_KEYS_FILE })
    assert.equal(await status(gateway.url, key), 404)
  })

  it('npm run key with wrong arguments prints the mistakes and its usage, and exits with 64', async () => {
    const failed = await run('npm', ['run', '--silent', 'key', '--', '--right', 'reed:x']).catch((error) => error)
    assert.equal(failed.code, 64)
    assert.match(failed.stderr, /--name is missing[\s\S]*--right/)
  })
})
