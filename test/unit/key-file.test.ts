// The API key file, its JSON Schema, and new keys.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { createKey } from '../../src/access/create-key.js'
import { KeyFileError, readKeyFile } from '../../src/access/key-file.js'
import { keyFileJsonSchema } from '../../src/access/key-file-schema.js'

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

describe('the API key file', () => {
  it('a key has a name, a digest and rights', () => {
    const [key] = read({ ...entry, sha256: sha256.toUpperCase() })
    assert.equal(key!.name, 'worker')
    assert.equal(key!.sha256, sha256)
    assert.equal(key!.grants.length, 1)
    assert.equal(key!.expiresAt, undefined)
    assert.equal(key!.setsUserId, false)
    assert.deepEqual(read(), [])
  })

  it('a key may have an expiry, headers for its messages, and the right to set user_id', () => {
    const [key] = read({ ...entry, expires_at: '2030-01-31T00:00:00+01:00', headers: { 'x-tenant': 'acme' }, user_id: true })
    assert.equal(key!.expiresAt, Date.UTC(2030, 0, 30, 23))
    assert.deepEqual(key!.headers, { 'x-tenant': 'acme' })
    assert.equal(key!.setsUserId, true)
  })

  it('a date that does not exist is a mistake', () => {
    for (const day of ['2030-02-30', '2030-02-29', '2030-04-31'])
      assert.equal(wrong({ ...entry, expires_at: `${day}T00:00:00Z` }).length, 1, day)
    for (const time of ['2030-01-31', '2030-01-31 00:00:00Z', '2030-01-31T24:00:00', '2030-06-30T23:59:60Z', 7])
      assert.equal(wrong({ ...entry, expires_at: time }).length, 1, `${time}`)
    assert.deepEqual(wrong({ ...entry, expires_at: '2028-02-29T23:59:59-11:00' }), [])
  })

  it('every mistake is reported with its place', () => {
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

  it('a file that is not a list of keys is one mistake', () => {
    for (const text of ['', '{', '[]', 'null', '{}', '{"keys": {}}', '{"keys": [], "more": 1}']) {
      assert.equal(mistakes(text).length, 1, text)
    }
    assert.deepEqual(mistakes('{"$schema": "api-keys.schema.json", "keys": []}'), [])
  })

  it('a mistake never shows a digest', () => {
    assert.doesNotMatch(mistakes(`{"keys": [{"sha256": "${sha256}"`).join(), new RegExp(sha256.slice(0, 8)))
    assert.doesNotMatch(wrong(entry, { ...entry, name: 'b' }).join(), new RegExp(sha256.slice(0, 8)))
    assert.doesNotMatch(wrong({ ...entry, name: `${sha256}!`, rights: [sha256] }).join(), new RegExp(sha256.slice(0, 8)))
  })

  it('nothing but a KeyFileError is ever thrown', () => {
    fc.assert(fc.property(fc.json(), (json) => void mistakes(`{"keys": [${json}]}`)))
    fc.assert(fc.property(fc.string(), (text) => void mistakes(text)))
  })
})

describe('docs/api-keys.schema.json', () => {
  it('the published JSON Schema is the one that the gateway checks', () => {
    const published = JSON.parse(readFileSync('docs/api-keys.schema.json', 'utf8'))
    assert.deepEqual(published, keyFileJsonSchema(), 'run npm run build && node scripts/key-schema.mjs')
  })
})

describe('a new key', () => {
  it('a new key matches its entry, which is valid in the file', () => {
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

  it('every new key is different', () => {
    const one = () => createKey(['--name', 'a', '--right', 'read:*/*']).key
    assert.notEqual(one(), one())
  })

  it('a new key is refused if its entry would be a mistake in the file', () => {
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
