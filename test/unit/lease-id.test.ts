// Lease ids: found again by every instance, made by none but ours.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { EPOCH_BYTES } from '../../src/amqp/lease-connection.js'
import { loadConfig } from '../../src/config.js'
import { LeaseIds, ownerDigest } from '../../src/leases/id.js'
import { name } from '../support/generate.js'

const ids = (env: Record<string, string> = {}) => new LeaseIds(loadConfig(env))
const epoch = () => randomBytes(EPOCH_BYTES).toString('base64url')
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

describe('a lease id', () => {
  it('says its epoch, its vhost and its queue, whatever their names', () => {
    const made = ids()
    fc.assert(
      fc.property(name, name, fc.option(fc.string(), { nil: undefined }), (vhost, queue, login) => {
        const of = epoch()
        const owner = login === undefined ? undefined : ownerDigest(login)
        const parsed = { epoch: of, vhost: vhost === '/' ? undefined : vhost, queue, owner }
        assert.deepEqual(made.read(made.create(of, vhost, queue, owner)), parsed)
      }),
    )
    const longest = 'ü'.repeat(127)
    const owner = ownerDigest(longest)
    assert.deepEqual(made.read(made.create('AAAAAAAAAAA', longest, longest, owner)), {
      epoch: 'AAAAAAAAAAA',
      vhost: longest,
      queue: longest,
      owner,
    })
  })

  it('is shorter where the vhost is the connection’s own', () => {
    const made = ids({ AMQP_URL: 'amqp://localhost/orders' })
    const id = made.create(epoch(), 'orders', 'q')
    assert.equal(made.read(id)?.vhost, undefined)
    assert.ok(id.length < made.create(epoch(), 'other', 'q').length)
  })

  it('fits into a path and is never the same twice', () => {
    const made = ids()
    const of = epoch()
    const some = Array.from({ length: 1000 }, () => made.create(of, 'a/b ü', 'q'))
    assert.equal(new Set(some).size, 1000)
    for (const id of some) assert.match(id, /^[A-Za-z0-9_-]+$/)
  })

  it('is refused after the change of any one character', () => {
    const made = ids()
    for (const vhost of ['/', 'v', 'ü/ ']) {
      const id = made.create(epoch(), vhost, 'q', vhost === 'v' ? ownerDigest('user a') : undefined)
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

  it('is refused with something before or behind it', () => {
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

  it('is never taken for one that somebody made up', () => {
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

  it('is understood by every instance with the same credentials or secret, and by no other', () => {
    const id = ids({ AMQP_URL: 'amqp://u:p@one' }).create(epoch(), 'v', 'q')
    assert.ok(ids({ AMQP_URL: 'amqp://u:p@two:5673' }).read(id))
    assert.equal(ids({ AMQP_URL: 'amqp://u:q@one' }).read(id), undefined)
    const secret = ids({ LEASE_SECRET: 's', AMQP_URL: 'amqp://u:p@one' }).create(epoch(), 'v', 'q')
    assert.ok(ids({ LEASE_SECRET: 's', AMQP_URL: 'amqp://x:y@two' }).read(secret))
    assert.equal(ids({ LEASE_SECRET: 't', AMQP_URL: 'amqp://u:p@one' }).read(secret), undefined)
  })
})
