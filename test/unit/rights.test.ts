// Rights in RabbitMQ's scope grammar.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ALL_RIGHTS, Pattern, parseGrant, Rights } from '../../src/access/rights.js'

const rights = (...scopes: string[]) => new Rights(scopes.map(parseGrant))

describe('patterns of rights', () => {
  it('a pattern without a wildcard matches its own text only', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (text, other) => {
        const pattern = new Pattern(encodeURIComponent(text).replaceAll('*', '%2A'))
        assert.equal(pattern.matches(text), true)
        assert.equal(pattern.matches(other), other === text)
        assert.equal(pattern.isAnything, false)
      }),
    )
  })

  it('a star matches what .* matches in a regular expression', () => {
    const letters = fc.constantFrom('a', 'b', '/', '.')
    const parts = fc.array(fc.oneof(letters, fc.constant('*')), { maxLength: 8 })
    fc.assert(
      fc.property(parts, fc.array(letters, { maxLength: 10 }), (parts, text) => {
        const expression = new RegExp(`^${parts.map((part) => (part === '*' ? '.*' : part === '.' ? '\\.' : part)).join('')}$`)
        const pattern = new Pattern(parts.map((part) => (part === '*' ? part : encodeURIComponent(part))).join(''))
        assert.equal(pattern.matches(text.join('')), expression.test(text.join('')), `${parts.join('')} ${text.join('')}`)
      }),
      { numRuns: 2000 },
    )
  })

  it('a pattern of stars alone matches anything', () => {
    for (const text of ['*', '**']) assert.equal(new Pattern(text).isAnything, true)
    for (const text of ['', 'a*', '*a', '*a*', '%2A']) assert.equal(new Pattern(text).isAnything, false, text)
  })

  it('many stars do not make matching slow', () => {
    // A backtracking matcher would take longer than the universe has existed.
    assert.equal(new Pattern(`${'*a'.repeat(60)}*b`).matches('a'.repeat(250)), false)
  })

  it('patterns are case-sensitive, and a plus in them is a space', () => {
    assert.equal(new Pattern('Orders').matches('orders'), false)
    assert.equal(new Pattern('a+b').matches('a b'), true)
    assert.equal(new Pattern('a%2Bb').matches('a+b'), true)
  })
})

describe('scopes', () => {
  it('a scope has a right, a vhost, a name and an optional routing key', () => {
    const { right, vhost, name, routingKey } = parseGrant('read:%2F/orders.*')
    assert.equal(right, 'read')
    assert.ok(vhost.matches('/') && !vhost.matches('%2F'))
    assert.ok(name.matches('orders.eu') && !name.matches('order'))
    assert.equal(routingKey, undefined)
    assert.ok(parseGrant('write:v/e/').routingKey?.matches(''))
  })

  it('malformed scopes are refused', () => {
    const others = [
      '',
      'read',
      'read:',
      'read:v',
      'read:/q',
      'read:v/',
      'READ:v/q',
      'admin:v/q',
      'read:v/e/k/x',
      ' read:v/q',
      'read:v/q%zz',
    ]
    for (const scope of [...others, `read:v/${'a'.repeat(3000)}`]) assert.throws(() => parseGrant(scope), Error, scope)
  })
})

describe('rights', () => {
  it('a right applies to the names that its patterns match, and to no other right', () => {
    const some = rights('read:%2F/orders.*', 'write:other/*')
    assert.equal(some.allows('read', '/', 'orders.eu'), true)
    assert.equal(some.allows('write', '/', 'orders.eu'), false)
    assert.equal(some.allows('read', 'other', 'orders.eu'), false)
    assert.equal(some.allows('write', 'other', 'a/b'), true)
    assert.equal(some.knows('/', 'orders.eu'), true)
    assert.equal(some.knows('/', 'order'), false)
  })

  it('decisions stay the same for more names than are remembered', () => {
    const some = rights('read:v/*7', 'write:v/*/k*')
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 12_000; i++) assert.equal(some.allows('read', 'v', `q${i}`), i % 10 === 7)
      assert.equal(some.allowsKey('write', 'v', 'e', 'k1'), true)
      assert.equal(some.allowsKey('write', 'v', 'e', 'x'), false)
    }
  })

  it('a right may be limited to some routing keys', () => {
    const some = rights('write:v/e/eu.*', 'write:v/e/us', 'write:v/f', 'write:v/g/*', 'write:v/g/x')
    for (const [exchange, key, may] of [
      ['e', 'eu.de', true],
      ['e', 'us', true],
      ['e', 'us.ca', false],
      ['e', '', false],
      ['e', undefined, false],
      ['f', 'anything', true],
      ['f', undefined, true],
      ['g', undefined, true],
    ] as const) {
      assert.equal(some.allowsKey('write', 'v', exchange, key), may, `${exchange} ${key}`)
      assert.equal(some.publishes('v', exchange, key), may, `${exchange} ${key}`)
    }
  })

  it('publishing through the default exchange needs a right on the queue or on the exchange', () => {
    for (const exchange of ['', 'amq.default']) {
      const queue = rights('write:v/orders')
      assert.equal(queue.publishes('v', exchange, 'orders'), true)
      assert.equal(queue.publishes('v', exchange, 'others'), false)
      assert.equal(queue.publishes('v', exchange, undefined), false)
      assert.equal(rights('write:v/amq.default').publishes('v', exchange, 'orders'), true)
      assert.equal(rights('write:v/amq.default').publishes('v', exchange, undefined), true)
      assert.equal(rights('write:v/amq.default/orders').publishes('v', exchange, 'others'), false)
      // Meant for an exchange of that name: for the queue it would ignore the limit on routing keys.
      assert.equal(rights('write:v/orders/eu.*').publishes('v', exchange, 'orders'), false)
    }
  })

  it('no right matches the names of the gateway itself', () => {
    const own = 'gateway.delay.due'
    const some = rights('configure:*/*', 'write:*/*', 'read:*/g*', 'read:*/*.due', 'write:v/amq.default')
    assert.equal(some.knows('v', own), false)
    for (const exchange of ['', 'amq.default']) {
      assert.equal(some.publishes('v', exchange, own), false)
      assert.equal(some.publishes('v', exchange, 'gateway'), true)
    }
    assert.equal(rights('read:*/gateway.*').allows('read', 'v', own), false)
    assert.equal(rights('write:v/gateway.delay.due').publishes('v', '', own), false)
    assert.equal(rights('read:v/gate%2A').knows('v', own), false)
  })

  it('ALL_RIGHTS allows everything', () => {
    assert.equal(ALL_RIGHTS.allows('configure', 'v', 'q'), true)
    assert.equal(ALL_RIGHTS.publishes('v', 'e', undefined), true)
  })

  it('the rights of a vhost can be written as text and read again', () => {
    const scopes = ['write:v/a%2Fb', 'write:v/e/eu.*', 'write:*/c', 'read:v/a', 'write:w/d']
    const kept = rights(...scopes).write('write', 'v')
    assert.deepEqual(kept, ['write:v/a%2Fb', 'write:v/e/eu.*', 'write:*/c'])
    const read = Rights.read(JSON.parse(JSON.stringify(kept)))
    assert.deepEqual(
      [
        read.publishes('v', '', 'a/b'),
        read.publishes('v', 'e', 'eu.de'),
        read.publishes('v', 'e', 'us'),
        read.allows('read', 'v', 'a'),
      ],
      [true, true, false, false],
    )
    assert.equal(ALL_RIGHTS.write('write', 'v'), 'everything')
    assert.equal(Rights.read('everything'), ALL_RIGHTS)
    assert.equal(Rights.read(rights().write('write', 'v')).publishes('v', '', 'q'), false)
  })

  it('an identity without rights may do nothing', () => {
    assert.equal(rights().knows('/', 'q'), false)
    assert.equal(rights().publishes('/', '', 'q'), false)
  })
})
