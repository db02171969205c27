// The parts of subscriptions that need no broker: signatures, addresses, responses and the delivery window.

import assert from 'node:assert/strict'
import { createHmac, randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { range } from '../../src/config/parsers.js'
import { AddressPolicy, AddressRefused } from '../../src/push/address-policy.js'
import { classifyResponse, parseRetryAfter } from '../../src/push/response.js'
import { newSecret, secretError, signatureHeaders, webhookId } from '../../src/push/signature.js'
import { areAlike, type Subscription, shownHeaders } from '../../src/push/subscription.js'
import { DeliveryWindow } from '../../src/push/window.js'

const secretOf = (bytes: number) => `whsec_${randomBytes(bytes).toString('base64')}`

describe('webhook signature', () => {
  const body = Buffer.from('{"grüße": 1}\r\n')

  it('a signature with two secrets is verified by the standardwebhooks package with either of them', () => {
    const secrets = [newSecret(), secretOf(64)]
    const headers = signatureHeaders(secrets, 'order-1', Date.now(), body)
    for (const secret of secrets) new Webhook(secret).verify(body, headers, { jsonParse: false })
    assert.equal(headers['webhook-signature']!.split(' ').length, 2)
    assert.match(headers['webhook-timestamp']!, /^\d{10}$/)
  })

  it('a signature covers the exact bytes of the body, even if they are not text', () => {
    const bytes = Buffer.from([0xff, 0x00, 0x0a])
    const headers = signatureHeaders(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'], 'msg_1', 1_674_087_231_000, bytes)
    const key = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64')
    const content = Buffer.concat([Buffer.from('msg_1.1674087231.'), bytes])
    assert.equal(headers['webhook-signature'], `v1,${createHmac('sha256', key).update(content).digest('base64')}`)
  })

  it('a signature is invalid for another secret, body, id or time', () => {
    const secret = newSecret()
    const headers = signatureHeaders([secret], 'order-1', Date.now(), body)
    const verify = (changed: object, of = body, by = secret) =>
      new Webhook(by).verify(of, { ...headers, ...changed }, { jsonParse: false })
    verify({})
    assert.throws(() => verify({}, Buffer.from('x')))
    assert.throws(() => verify({}, body, newSecret()))
    assert.throws(() => verify({ 'webhook-id': 'order-2' }))
    assert.throws(() => verify({ 'webhook-timestamp': String(Number(headers['webhook-timestamp']) + 1) }))
  })

  it('a secret that is not 24 to 64 bytes in base64 is refused', () => {
    for (const bytes of [24, 32, 64]) assert.equal(secretError(secretOf(bytes)), undefined)
    for (const wrong of [secretOf(23), secretOf(65), 'whsec_', 'geheim', secretOf(32).slice(6), 'whsec_***'])
      assert.ok(secretError(wrong), wrong)
    assert.equal(secretError(newSecret()), undefined)
  })

  it('the webhook id is the message id, percent-encoded if a header cannot carry it', () => {
    assert.equal(webhookId('a.b:42%20'), 'a.b:42%20')
    assert.equal(webhookId('ü 1\n'), '%C3%BC%201%0A')
  })
})

describe('push address policy', () => {
  const REFUSED = [
    ...['127.0.0.1', '127.255.255.254', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '0.0.0.0'],
    ...['100.64.0.1', '192.0.0.1', '192.0.2.1', '198.18.0.1', '198.51.100.1', '203.0.113.1', '224.0.0.1', '255.255.255.255'],
    ...['::', '::1', 'fe80::1', 'fe80::1%lo', 'fc00::1', 'fd00:ec2::254', 'ff02::1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
    ...['::ffff:10.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::', '2001:db8::1', '2001::1', 'fec0::1', '::127.0.0.1', '4000::1'],
    ...['192.88.99.1', '192.175.48.1', '240.0.0.1', '100::1', '1000::1', '3fff::1', '5f00::1', '64:ff9b:1::1', '8000::1'],
    ...['168.63.129.16', '::ffff:168.63.129.16'],
    ...['no address', ''],
  ]
  const ALLOWED = ['8.8.8.8', '172.32.0.1', '1.1.1.1', '192.1.1.1', '2606:4700::1111', '2a00:1450:4001::1', '::ffff:8.8.8.8']

  it('an address that is not public is refused', () => {
    const addresses = new AddressPolicy([])
    for (const one of REFUSED) assert.equal(addresses.allows(one), false, one)
    for (const one of ALLOWED) assert.equal(addresses.allows(one), true, one)
  })

  it('PUSH_ALLOWED_NETWORKS allows the addresses that it names and no others', () => {
    const addresses = new AddressPolicy(['10.1.0.0/16', '127.0.0.1', 'fd00::/8'].map(range))
    for (const one of ['10.1.2.3', '::ffff:10.1.2.3', '127.0.0.1', 'fd12::1', '8.8.8.8'])
      assert.equal(addresses.allows(one), true, one)
    for (const one of ['10.2.0.1', '127.0.0.2', 'fc00::1', '::1']) assert.equal(addresses.allows(one), false, one)
  })

  it('an address of this machine is refused although it is public, unless PUSH_ALLOWED_NETWORKS allows it', () => {
    const ethernet = ['8.8.8.8', '2606:4700:0::1111'].map((address) => ({ address }))
    const here = () => ({ lo: [{ address: '127.0.0.1' }], eth0: ethernet, none: undefined }) as never
    const addresses = new AddressPolicy([], undefined, here)
    for (const one of ['8.8.8.8', '::ffff:8.8.8.8', '2606:4700::1111']) assert.equal(addresses.allows(one), false, one)
    for (const one of ['8.8.8.9', '2606:4700::1112']) assert.equal(addresses.allows(one), true, one)
    const open = new AddressPolicy([range('8.8.8.8'), range('168.63.129.16')], undefined, here)
    for (const one of ['8.8.8.8', '168.63.129.16']) assert.equal(open.allows(one), true, one)
  })

  it('an address in a URL is judged in every notation', () => {
    const addresses = new AddressPolicy([])
    for (const host of [
      '127.0.0.1',
      '0x7f000001',
      '2130706433',
      '127.1',
      '017700000001',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '127.0.0.1.',
    ])
      assert.throws(() => addresses.checkHost(new URL(`http://${host}/`)), AddressRefused, host)
    addresses.checkHost(new URL('http://example.com/'))
  })

  it('a resolved name loses its refused addresses, and fails if no other address is left', () => {
    const look = (...found: string[]) => {
      const addresses = new AddressPolicy([], (_name, _options, callback) =>
        callback(
          null,
          found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
        ),
      )
      let result: unknown
      addresses.lookup('endpoint.example', { all: true }, (error, found) => {
        result = error ?? found
      })
      return result
    }
    assert.deepEqual(look('10.0.0.1', '8.8.8.8', '::1'), [{ address: '8.8.8.8', family: 4 }])
    const refused = look('127.0.0.1')
    assert.ok(refused instanceof AddressRefused)
    assert.match(refused.message, /endpoint\.example.*127\.0\.0\.1/)
  })
})

describe('endpoint response', () => {
  it('a response is classified by its status', () => {
    const kinds = Object.fromEntries(
      [200, 201, 202, 204, 299, 301, 308, 400, 404, 410, 429, 500, 503].map((s) => [s, classifyResponse(s, undefined).kind]),
    )
    assert.deepEqual(kinds, {
      ...{
        200: 'delivered',
        201: 'delivered',
        202: 'accepted',
        204: 'delivered',
        299: 'delivered',
        301: 'failed',
        308: 'failed',
      },
      ...{ 400: 'failed', 404: 'failed', 410: 'gone', 429: 'slowed', 500: 'failed', 503: 'failed' },
    })
    assert.deepEqual(classifyResponse(503, '7'), { kind: 'slowed', rest: 7000 })
    assert.deepEqual(classifyResponse(429, 'soon'), { kind: 'slowed', rest: undefined })
  })

  it('a retry-after is read as seconds or as a date, and limited to an hour', () => {
    const now = Date.parse('2026-01-01T00:00:00Z')
    assert.equal(parseRetryAfter('0', now), 0)
    assert.equal(parseRetryAfter('120', now), 120_000)
    assert.equal(parseRetryAfter('99999999999', now), 3_600_000)
    assert.equal(parseRetryAfter('Thu, 01 Jan 2026 00:00:30 GMT', now), 30_000)
    assert.equal(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now), 0)
    for (const wrong of ['', '-1', '1.5', 'soon', '2026-01-01', 'Foo, bar'])
      assert.equal(parseRetryAfter(wrong, now), undefined, wrong)
  })
})

describe('delivery window', () => {
  const flowAt = (limit: number) => {
    const clock = { now: 1_000_000 }
    return { clock, flow: new DeliveryWindow(limit, () => clock.now) }
  }

  it('the window doubles after as many successes as it is wide, up to its limit, and halves on a failure', () => {
    const { flow } = flowAt(6)
    const windows = Array.from({ length: 10 }, () => {
      flow.succeeded()
      return flow.window
    })
    assert.deepEqual(windows, [2, 2, 4, 4, 4, 4, 6, 6, 6, 6])
    flow.failed()
    assert.equal(flow.window, 3)
    flow.limit = 2
    assert.equal(flow.window, 2)
  })

  it('the circuit opens after three failures in a row, rests longer after each probe, and closes on a success', () => {
    const { flow, clock } = flowAt(10)
    flow.failed()
    flow.failed()
    assert.equal(flow.isOpen, false)
    flow.failed()
    for (const rest of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
      assert.equal(flow.isOpen, true)
      assert.equal(flow.restUntil! - clock.now, rest)
      flow.failed() // a delivery that was in progress when the circuit opened does not count
      clock.now += rest
      assert.equal(flow.restUntil, undefined)
      flow.failed()
    }
    clock.now += 60_000
    flow.succeeded()
    assert.equal(flow.isOpen, false)
    for (let n = 0; n < 20; n++) flow.failed()
    assert.equal(flow.restUntil! - clock.now, 1000, 'the first rest after a success is a second')
  })

  it('the window rests for as long as the endpoint asks, and otherwise longer each time', () => {
    const { flow, clock } = flowAt(10)
    for (let n = 0; n < 3; n++) flow.succeeded()
    assert.equal(flow.window, 4)
    assert.equal(flow.slowed(5000), 5000)
    assert.equal(flow.slowed(undefined), 5000, 'a second response at the same moment does not lengthen the rest')
    assert.equal(flow.window, 2)
    assert.equal(flow.isOpen, false)
    clock.now += 5000
    assert.equal(flow.slowed(undefined), 1000)
    clock.now += 1000
    assert.equal(flow.slowed(undefined), 2000)
  })
})

describe('subscription definition', () => {
  it('a definition is shown without the values of headers that look like credentials', () => {
    const headers = { Authorization: 'Bearer a', 'X-Api-Key': 'b', cookie: 'c', 'x-tenant': 'd', 'x-auth-token': 'e' }
    assert.deepEqual(Object.values(shownHeaders(headers)), ['********', '********', '********', 'd', '********'])
  })

  it('two definitions are equal whatever the order of their members', () => {
    const one = { queue: 'q', headers: { a: '1', b: '2' }, secrets: ['x'], paused: false } as unknown as Subscription
    const two = {
      paused: false,
      secrets: ['x'],
      headers: { b: '2', a: '1' },
      queue: 'q',
      reason: undefined,
    } as unknown as Subscription
    assert.ok(areAlike(one, two))
    assert.ok(!areAlike(one, { ...two, secrets: ['y'] }))
  })
})
