// Lease ids: every instance can read them, and only instances with the secret can make them.

import assert from 'node:assert/strict'
import { createHmac, randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { EPOCH_BYTES } from '../../src/amqp/consume/lease-connection.js'
import { loadConfig } from '../../src/config/index.js'
import { LeaseIds, loginDigest } from '../../src/leases/id.js'
import { name } from '../support/generate.js'

const LEASE_SECRET = 'what instances share'
const SECRETS = { LEASE_SECRET, ADVERTISE_SECRET: 'what instances share' }
const ids = (env: Record<string, string> = { LEASE_SECRET }, instance = 'BBBBBBBBBBB') => new LeaseIds(loadConfig(env), instance)
const advertising = (instance?: string) => ids({ ADVERTISE_URL: 'http://h:1', ...SECRETS }, instance)
const epoch = () => randomBytes(EPOCH_BYTES).toString('base64url')
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

describe('lease id', () => {
  it('a lease id contains its epoch, vhost, queue, receiver and instance, whatever their names', () => {
    const makers = [undefined, 'AAAAAAAAAAA', '-_-_-_-_-_8'].map((instance) => ({
      instance,
      made: instance === undefined ? ids() : advertising(instance),
    }))
    fc.assert(
      fc.property(
        fc.constantFrom(...makers),
        name,
        name,
        fc.option(fc.string(), { nil: undefined }),
        ({ made, instance }, vhost, queue, login) => {
          const of = epoch()
          const receivedBy = login === undefined ? undefined : loginDigest(login)
          const parsed = { epoch: of, vhost: vhost === '/' ? undefined : vhost, queue, receivedBy, instance }
          for (const other of makers) assert.deepEqual(other.made.read(made.create(of, vhost, queue, receivedBy)), parsed)
        },
      ),
    )
    const longest = 'ü'.repeat(127)
    const receivedBy = loginDigest(longest)
    assert.deepEqual(ids().read(advertising().create('AAAAAAAAAAA', longest, longest, receivedBy)), {
      epoch: 'AAAAAAAAAAA',
      vhost: longest,
      queue: longest,
      receivedBy,
      instance: 'BBBBBBBBBBA',
    })
  })

  it('a lease id has no address in it', () => {
    const id = Buffer.from(advertising().create(epoch(), '/', 'q'), 'base64url').toString('latin1')
    assert.doesNotMatch(id, /http/)
  })

  it('a lease id of the version before is read, and its address is not used', () => {
    const withUrl = 'BwAAAAAAAAAADLDPY9yaST8yYkhf5K2elEYbvCcNOeYCzvX6012xsiwUaHR0cDovLzEwLjAuMC41OjgwODABdnE'
    const plain = 'AgAAAAAAAAAAEihBV7_YnERCgK4bGIMDEh03FnsaWhMpAHE'
    const receivedBy = loginDigest('user a')
    const parsed = { epoch: 'AAAAAAAAAAA', queue: 'q', instance: undefined }
    assert.deepEqual(ids().read(withUrl), { ...parsed, vhost: 'v', receivedBy })
    assert.deepEqual(ids({ AMQP_URL: 'amqp://u:p@two' }).read(plain), { ...parsed, vhost: undefined, receivedBy: undefined })
    assert.equal(ids().read(plain), undefined)
    assert.equal(ids({ AMQP_URL: 'amqp://u:p@two' }).read(withUrl), undefined)
  })

  it('guessing the credentials from a lease id takes a slow hash for each guess', () => {
    const id = Buffer.from(ids({ AMQP_URL: 'amqp://u:p@one' }).create('AAAAAAAAAAA', '/', 'q'), 'base64url')
    // What the version before did with a guess, and what a quick hash of any label would do.
    for (const label of ['rabbitmq-http-gateway lease ids', 'rabbitmq-http-gateway']) {
      const once = createHmac('sha256', label).update('u\0p').digest()
      for (const key of [once, createHmac('sha256', once).update('rabbitmq-http-gateway lease ids').digest()]) {
        const mac = createHmac('sha256', key).update(id.subarray(0, 25)).update(id.subarray(33)).digest()
        assert.notDeepEqual(mac.subarray(0, 8), id.subarray(25, 33))
      }
    }
    const start = process.cpuUsage()
    ids({ AMQP_URL: `amqp://u:${randomBytes(8).toString('hex')}@one` })
    const { user, system } = process.cpuUsage(start)
    assert.ok(user + system > 5000, `${user + system} µs`)
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
      const made = vhost === '/' ? advertising() : ids()
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
    const secret = ids({ LEASE_SECRET, AMQP_URL: 'amqp://u:p@one' }).create(epoch(), 'v', 'q')
    assert.ok(ids({ LEASE_SECRET, AMQP_URL: 'amqp://x:y@two' }).read(secret))
    assert.equal(ids({ LEASE_SECRET: 'what others share', AMQP_URL: 'amqp://u:p@one' }).read(secret), undefined)
  })
})
