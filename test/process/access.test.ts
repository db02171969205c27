// The process where it asks who calls: its key file, its log, its signals, and the command that makes a key.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { freshFile, KeyFile, replaceFile } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL } from '../support/gateway.js'
import { AUDIENCE, ISSUER, inSeconds, keySetFile, newKey, token } from '../support/issuer.js'
import { readyGateway, spawnGateway } from '../support/process.js'

const run = promisify(execFile)
const status = async (url: string, key: string) =>
  (await fetch(`${url}/queues/nowhere`, { headers: { authorization: `Bearer ${key}` } })).status

describe('the process with API keys', () => {
  it('lists every mistake in the key file and does not start', async () => {
    const API_KEYS_FILE = freshFile('keys.json', '{"keys": [{"name": "a", "sha256": "x"}, 1]}')
    const gateway = spawnGateway({ AUTH: 'keys', API_KEYS_FILE, PORT: '0' })
    assert.equal(await gateway.exited, 78)
    for (const place of ['keys[0].sha256', 'keys[0].rights', 'keys[1]'])
      assert.ok(gateway.output().includes(place), gateway.output())
    const missing = spawnGateway({ AUTH: 'keys', API_KEYS_FILE: `${API_KEYS_FILE}.nowhere`, PORT: '0' })
    assert.equal(await missing.exited, 78)
    assert.match(missing.output(), /ENOENT/)
  })

  it('may listen to other machines', async () => {
    const file = new KeyFile()
    const gateway = await readyGateway({ AMQP_URL, HOST: '0.0.0.0', AUTH: 'keys', API_KEYS_FILE: file.path })
    assert.equal((await fetch(`${gateway.url}/queues/nowhere`)).status, 401)
  })

  it('reads the keys again on SIGHUP, and says what is wrong with them while it goes on', async () => {
    const file = new KeyFile()
    const first = file.add(['read:*/*'])
    const gateway = await readyGateway({ AMQP_URL, AUTH: 'keys', API_KEYS_FILE: file.path })
    assert.equal(await status(gateway.url, first), 404)
    const second = file.add(['read:*/*'])
    gateway.child.kill('SIGHUP')
    await eventually(async () => assert.equal(await status(gateway.url, second), 404))
    replaceFile(file.path, '{"keys": [7]}')
    gateway.child.kill('SIGHUP')
    await eventually(() => assert.match(gateway.output(), /keys\[0\] is not an object/))
    assert.equal(await status(gateway.url, second), 404)
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
  })

  it('has all of its workers read the keys again', async () => {
    const file = new KeyFile()
    const gateway = await readyGateway({ AMQP_URL, WORKERS: '2', AUTH: 'keys', API_KEYS_FILE: file.path })
    await eventually(() => assert.equal(gateway.output().match(/Server listening/g)?.length, 2), 30_000)
    // The file has not changed, so nothing but the signal has them read it.
    gateway.child.kill('SIGHUP')
    await eventually(() => {
      const readers = gateway
        .output()
        .split('\n')
        .flatMap((line) => (/API keys read/.test(line) ? [JSON.parse(line).pid] : []))
      assert.equal(new Set(readers).size, 2)
    })
    gateway.child.kill('SIGTERM')
    assert.equal(await gateway.exited, 0)
  })

  it('logs who was refused, from where and why, and never a key', async () => {
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
      const found = gateway
        .output()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
        .filter(({ msg }) => /refused/.test(msg))
      assert.equal(found.length, 5)
      return found
    })
    assert.deepEqual([lines[0].status, lines[0].code, lines[0].identity], [403, 'access_refused', 'key orders-worker'])
    assert.deepEqual([lines[1].status, lines[1].code, lines[1].identity], [401, 'unauthorized', undefined])
    for (const { address, request_id, path, detail } of lines) {
      assert.equal(address, '127.0.0.1')
      assert.ok(request_id && detail)
      assert.ok(!path.includes('?'))
    }
    await eventually(() => assert.equal(gateway.output().match(/"path":"\/queues\/mine",.*"msg":"request"/g)?.length, 3))
    for (const secret of [key, basic, file.entries[0]!.sha256, 'key=abc']) assert.ok(!gateway.output().includes(secret))
  })
})

describe('the process with tokens', () => {
  const SETTINGS = { AMQP_URL, AUTH: 'jwt', JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }

  it('says what is wrong with the set of keys and does not start', async () => {
    for (const [text, mistake] of [
      ['{', /is not JSON/],
      ['{"keys": 1}', /is not an object/],
      ['{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', /has no key that verifies signatures/],
    ] as const) {
      const gateway = spawnGateway({ ...SETTINGS, JWT_JWKS_FILE: freshFile('jwks.json', text), PORT: '0' })
      assert.equal(await gateway.exited, 78)
      assert.match(gateway.output(), mistake)
      assert.ok(!gateway.output().includes('c2VjcmV0'))
    }
  })

  it('logs whose token was refused, and never a token', async () => {
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
    await eventually(() => assert.equal(gateway.output().match(/request refused/g)?.length, 3))
    assert.match(gateway.output(), /"identity":"token worker-1"/)
    for (const one of tokens) for (const part of one.split('.').slice(1)) assert.ok(!gateway.output().includes(part))
  })
})

describe('npm run key', () => {
  it('prints a key that works, and its entry for the file', async () => {
    const { stdout } = await run('npm', ['run', '--silent', 'key', '--', '--name', 'worker', '--right', 'read:%2F/*'])
    const key = /^rhg_\S+$/m.exec(stdout)![0]
    const entry = stdout.slice(stdout.indexOf('\n{'))
    const API_KEYS_FILE = freshFile('keys.json', `{"keys": [${entry}]}`)
    const gateway = await readyGateway({ AMQP_URL, AUTH: 'keys', API_KEYS_FILE })
    assert.equal(await status(gateway.url, key), 404)
  })

  it('says how it is used where it is not', async () => {
    const failed = await run('npm', ['run', '--silent', 'key', '--', '--right', 'reed:x']).catch((error) => error)
    assert.equal(failed.code, 64)
    assert.match(failed.stderr, /--name is missing[\s\S]*--right/)
  })
})
