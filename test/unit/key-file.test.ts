// The file of API keys, and the command that creates a key.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { createKey } from '../../src/access/create-key.js'
import { KeyFileError, readKeyFile } from '../../src/access/key-file.js'

const sha256 = createHash('sha256').update('key').digest('hex')
const entry = { name: 'worker', sha256, rights: ['read:%2F/orders.*'] }
const read = (...keys: unknown[]) => readKeyFile(JSON.stringify({ keys }))

function mistakes(text: string): string[] {
  try {
    readKeyFile(text)
    return []
  } catch (error) {
    assert.ok(error instanceof KeyFileError)
    return error.mistakes
  }
}
const wrong = (...keys: unknown[]) => mistakes(JSON.stringify({ keys }))

describe('key file', () => {
  it('a key file has keys with a name, a digest and rights', () => {
    const [key] = read({ ...entry, sha256: sha256.toUpperCase() })
    assert.equal(key!.name, 'worker')
    assert.equal(key!.sha256, sha256)
    assert.equal(key!.grants.length, 1)
    assert.equal(key!.expiresAt, undefined)
    assert.equal(key!.setsUserId, false)
    assert.deepEqual(read(), [])
  })

  it('a key may have an expiry, headers for its messages and a user_id', () => {
    const [key] = read({ ...entry, expires_at: '2030-01-31T00:00:00+01:00', headers: { 'x-tenant': 'acme' }, user_id: true })
    assert.equal(key!.expiresAt, Date.UTC(2030, 0, 30, 23))
    assert.deepEqual(key!.headers, { 'x-tenant': 'acme' })
    assert.equal(key!.setsUserId, true)
  })

  it('an expiry that is not in the calendar is refused', () => {
    for (const day of ['2030-02-30', '2030-02-29', '2030-04-31'])
      assert.equal(wrong({ ...entry, expires_at: `${day}T00:00:00Z` }).length, 1, day)
    assert.deepEqual(wrong({ ...entry, expires_at: '2028-02-29T23:59:59-11:00' }), [])
  })

  it('all mistakes in a key file are reported with their place', () => {
    const found = wrong(
      { name: '', sha256: 'short', rights: ['read:%2F/q', 'reed:%2F/q', 7], expires_at: 'tomorrow', colour: 'blue' },
      'a key',
      { ...entry, rights: 'all', headers: { CC: 'x', 'x-tenant': 1 }, user_id: 'yes' },
      { ...entry, name: 'other' },
      { ...entry, sha256: sha256.replaceAll(/./g, '0') },
    )
    assert.deepEqual(
      found.map((mistake) => mistake.split(' ')[0]).sort(),
      [
        'keys[0].colour',
        'keys[0].expires_at',
        'keys[0].name',
        'keys[0].rights[1]',
        'keys[0].rights[2]',
        'keys[0].sha256',
        'keys[1]',
        'keys[2].headers',
        'keys[2].headers',
        'keys[2].rights',
        'keys[2].user_id',
        'keys[3].sha256',
        'keys[4].name',
      ].sort(),
    )
  })

  it('a key file without a list of keys is refused', () => {
    for (const text of ['', '{', '[]', 'null', '{}', '{"keys": {}}', '{"keys": [], "more": 1}']) {
      assert.equal(mistakes(text).length, 1, text)
    }
  })

  it('a mistake does not show the content of the key file', () => {
    assert.doesNotMatch(mistakes(`{"keys": [{"sha256": "${sha256}"`).join(), new RegExp(sha256.slice(0, 8)))
    assert.doesNotMatch(wrong(entry, { ...entry, name: 'b' }).join(), new RegExp(sha256.slice(0, 8)))
  })

  it('reading a key file throws nothing but its list of mistakes', () => {
    fc.assert(fc.property(fc.json(), (json) => void mistakes(`{"keys": [${json}]}`)))
    fc.assert(fc.property(fc.string(), (text) => void mistakes(text)))
  })
})

describe('new key', () => {
  it('a new key matches its entry, and the entry is valid in a key file', () => {
    const { key, entry } = createKey([
      ...['--name', 'worker', '--right', 'read:%2F/a', '--right', 'write:%2F/b', '--expires', '90d'],
      ...['--header', 'x-tenant=a=b', '--user-id'],
    ])
    const [read] = readKeyFile(JSON.stringify({ keys: [entry] }))
    assert.match(key, /^rhg_[\w-]{43}$/)
    assert.equal(read!.sha256, createHash('sha256').update(key).digest('hex'))
    assert.equal(read!.grants.length, 2)
    assert.deepEqual(read!.headers, { 'x-tenant': 'a=b' })
    assert.ok(Math.abs(read!.expiresAt! - Date.now() - 90 * 86_400_000) < 60_000)
    assert.ok(!JSON.stringify(entry).includes(key))
  })

  it('a new key is different each time', () => {
    const one = () => createKey(['--name', 'a', '--right', 'read:*/*']).key
    assert.notEqual(one(), one())
  })

  it('a new key with an invalid name or right is refused', () => {
    for (const args of [
      [],
      ['--name', 'a'],
      ['--right', 'read:*/*'],
      ['--name', 'a', '--right', 'red:*/*'],
      ['--name', 'a', '--right', 'read:*/*', '--expires', 'soon'],
      ['--name', 'a', '--right', 'read:*/*', '--header', 'CC=q'],
      ['--nam', 'a'],
    ]) {
      assert.throws(() => createKey(args), Error, args.join(' '))
    }
  })
})
