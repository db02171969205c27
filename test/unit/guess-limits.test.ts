// How many credentials may be guessed, for each user and for each network.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Guess, GuessLimits } from '../../src/access/guess-limits.js'

/** Makes refused guesses until one is not allowed. @returns how many were allowed */
function countAllowed(limits: GuessLimits, from: (n: number) => { user?: string; address: string }): number {
  for (let n = 0; n < 1000; n++) {
    const { user = `user ${n}`, address } = from(n)
    const guess = limits.begin(user, address)
    if (guess === 'busy') throw new Error('nothing is being checked')
    if (!('end' in guess)) {
      assert.ok(guess.retryAfter > 0 && guess.retryAfter <= 30_000, String(guess.retryAfter))
      return n
    }
    guess.end(true)
  }
  return Number.POSITIVE_INFINITY
}

describe('limits for guesses', () => {
  const hex = (n: number) => n.toString(16)
  const CASES: [what: string, max: number, (n: number) => { user?: string; address: string }][] = [
    ['an IPv4 address', 10, () => ({ address: '198.51.100.7' })],
    ['an IPv4 address in the form of IPv6', 10, (n) => ({ address: n % 2 ? '198.51.100.7' : '::ffff:198.51.100.7' })],
    ['an IPv4 /24', 50, (n) => ({ address: `198.51.100.${n}` })],
    ['an IPv6 /64', 10, (n) => ({ address: `2001:db8::${hex(n)}` })],
    ['an IPv6 /56', 30, (n) => ({ address: `2001:db8:0:${hex(n)}::1` })],
    ['an IPv6 /48', 100, (n) => ({ address: `2001:db8:0:${hex(n * 256)}::1` })],
    ['a user', 20, (n) => ({ user: 'vic', address: `10.${n}.0.1` })],
    ['clients without an address', 10, () => ({ address: '' })],
  ]
  for (const [what, max, from] of CASES)
    it(`${what} has ${max} refused guesses`, () => assert.equal(countAllowed(new GuessLimits(), from), max))

  it('networks and users that differ have limits of their own', () => {
    const limits = new GuessLimits()
    for (const address of ['198.51.100.7', '198.51.101.7', '2001:db8::1', '2001:db8:1::1', '::1', '127.0.0.1'])
      assert.equal(
        countAllowed(limits, (n) => ({ user: `${address} ${n}`, address })),
        10,
        address,
      )
  })

  it('a guess that turns out right does not count', () => {
    const limits = new GuessLimits()
    const from = { user: 'vic', address: '198.51.100.7' }
    for (let n = 0; n < 100; n++) (limits.begin(from.user, from.address) as Guess).end(false)
    assert.equal(
      countAllowed(limits, () => from),
      10,
    )
  })

  it('guesses count while they are being checked', () => {
    const limits = new GuessLimits()
    const guesses = Array.from({ length: 10 }, (_, n) => limits.begin(`user ${n}`, '198.51.100.7') as Guess)
    assert.equal(limits.begin('vic', '198.51.100.7'), 'busy')
    guesses[0]!.end(false)
    const next = limits.begin('vic', '198.51.100.7') as Guess
    for (const guess of [next, ...guesses.slice(1)]) guess.end(true)
    assert.ok('retryAfter' in (limits.begin('vic', '198.51.100.7') as object))
  })
})
