// Lease ids: every instance can read them, and only instances with the secret can make them.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { EPOCH_BYTES } from '../../src/amqp/consume/lease-connection.js'
import { loadConfig } from '../../src/config/index.js'
import { LeaseIds, loginDigest } from '../../src/leases/id.js'
import { name } from '../support/generate.js'

const ids = (env: Record<string, string> = {}) => new LeaseIds(loadConfig(env))
const advertising = (url?: string) => ids(url === undefined ? {} : { ADVERTISE_URL: url, ADVERTISE_SECRET: 's' })
const LONGEST_URL = `https://${`${'a'.repeat(60)}.`.repeat(4)}x.y`
const epoch = () => randomBytes(EPOCH_BYTES).toString('base64url')
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

describe('lease id', () => {
  it('a lease id contains its epoch, vhost, queue, receiver and instance URL, whatever their names', () => {
    const makers = [undefined, 'http://h:1', 'https://[2001:db8::1]', LONGEST_URL].map((url) => ({ url, made: advertising(url) }))
    fc.assert(
      fc.property(
        fc.constantFrom(...makers),
        name,
        name,
        fc.option(fc.string(), { nil: undefined }),
        (by, vhost, queue, login) => {
          const of = epoch()
          const receivedBy = login === undefined ? undefined : loginDigest(login)
          const parsed = { epoch: of, vhost: vhost === '/' ? undefined : vhost, queue, receivedBy, url: by.url }
          for (const { made } of makers) assert.deepEqual(made.read(by.made.create(of, vhost, queue, receivedBy)), parsed)
        },
      ),
    )
    const longest = 'ü'.repeat(127)
    const receivedBy = loginDigest(longest)
    assert.deepEqual(ids().read(advertising(LONGEST_URL).create('AAAAAAAAAAA', longest, longest, receivedBy)), {
      epoch: 'AAAAAAAAAAA',
      vhost: longest,
      queue: longest,
      receivedBy,
      url: LONGEST_URL,
    })
  })

  it('a lease id with an instance URL is longer by that URL only', () => {
    const [with_, without] = [advertising('http://10.0.0.5:8080'), ids()].map((made) => made.create(epoch(), '/', 'q').length)
    assert.equal(with_! - without!, Math.ceil((('http://10.0.0.5:8080'.length + 1) * 4) / 3))
  })

  it('a lease id omits the vhost of the connection', () => {
    const made = ids({ AMQP_URL: 'amqp://localhost/orders' })
    const id = made.create(epoch(), 'orders', 'q')
    assert.equal(made.read(id)?.vhost, undefined)
    assert.ok(id.length < made.create(epoch(), 'other', 'q').length)
  })

  it('a lease id fits into a path and is unique', () => {
    const made = ids()
    const of = epoch()
    const some = Array.from({ length: 1000 }, () => made.create(of, 'a/b ü', 'q'))
    assert.equal(new Set(some).size, 1000)
    for (const id of some) assert.match(id, /^[A-Za-z0-9_-]+$/)
  })

  it('a lease id with any one character changed or missing is refused', () => {
    for (const vhost of ['/', 'v', 'ü/ ']) {
      const made = vhost === '/' ? advertising('http://h') : ids()
      const id = made.create(epoch(), vhost, 'q', vhost === 'v' ? loginDigest('user a') : undefined)
      for (let at = 0; at < id.length; at++) {
        for (const character of ALPHABET) {
          if (character === id[at]) continue
          const changed = id.slice(0, at) + character + id.slice(at + 1)
          assert.equal(made.read(changed), undefined, `${at} ${character}`)
        }
        assert.equal(made.read(id.slice(0, at)), undefined)
        assert.equal(made.read(id.slice(0, at) + id.slice(at + 1)), undefined)
      }
    }
  })

  it('a lease id with text before or after it is refused', () => {
    const made = ids()
    const id = made.create(epoch(), '/', 'q')
    for (const changed of [
      `${id}A`,
      `A${id}`,
      `${id}=`,
      `${id} `,
      ` ${id}`,
      `${id}\n`,
      `${id}/`,
      id.toLowerCase(),
      '',
      'A'.repeat(5000),
    ]) {
      assert.equal(made.read(changed), undefined, changed)
    }
  })

  it('an invented lease id is refused', () => {
    const made = ids()
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
        ),
        (text) => {
          assert.equal(made.read(text), undefined)
        },
      ),
    )
  })

  it('a lease id is read only by instances with the same credentials or secret', () => {
    const id = ids({ AMQP_URL: 'amqp://u:p@one' }).create(epoch(), 'v', 'q')
    assert.ok(ids({ AMQP_URL: 'amqp://u:p@two:5673' }).read(id))
    assert.equal(ids({ AMQP_URL: 'amqp://u:q@one' }).read(id), undefined)
    const secret = ids({ LEASE_SECRET: 's', AMQP_URL: 'amqp://u:p@one' }).create(epoch(), 'v', 'q')
    assert.ok(ids({ LEASE_SECRET: 's', AMQP_URL: 'amqp://x:y@two' }).read(secret))
    assert.equal(ids({ LEASE_SECRET: 't', AMQP_URL: 'amqp://u:p@one' }).read(secret), undefined)
  })
})
