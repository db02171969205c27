// The headers of the gateway on a message, and what is believed of them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import '../../src/amqp/wire/amqplib.js'
import { copyOf } from '../../src/amqp/wire/copy.js'
import { decodeProperties, ownHeadersOf } from '../../src/amqp/wire/encoded-properties.js'
import { isOwnHeader, readOwnRecord, takeOwnHeaders } from '../../src/amqp/wire/own-headers.js'
import { copyExchange } from '../../src/amqp/wire/reserved.js'
import { LARGE_FIELDS, properties } from '../support/wire-samples.js'

describe('headers of the gateway', () => {
  it('a name belongs to the gateway in any spelling', () => {
    for (const name of ['x-gateway-queue', 'X-Gateway-', 'x-gateway-\n', 'gateway-delayed', 'Gateway-Delayed'])
      assert.ok(isOwnHeader(name), name)
    for (const name of ['x-gateway', 'gateway-delayed-', 'my-x-gateway-queue', 'gateway-undeliverable'])
      assert.ok(!isOwnHeader(name), name)
  })

  it('a record is read only in its queue, and only with values that the gateway writes', () => {
    const failures = [{ reason: 'größe', time: '2026-11-25T10:00:00.000Z', by: 'nack' as const }]
    const kept = { exchange: '', expiresAt: 1_700_000_000_000, messageId: 'id', failures }
    const record = { queue: 'q', deliveries: 2 ** 31, attempts: 3, ...kept }
    for (const [, bytes] of LARGE_FIELDS) {
      const delivered = decodeProperties(properties([bytes], []))
      const message = { exchange: 'e', routingKey: 'k', redelivered: false, properties: delivered, body: Buffer.alloc(0) }
      const own = ownHeadersOf(copyOf(message, { record }).properties)
      assert.ok(own)
      assert.deepEqual(readOwnRecord(own, 'q'), record)
      assert.equal(readOwnRecord(own, 'other'), undefined)
    }
    const forged = { 'x-gateway-queue': 'q', 'x-gateway-delivery-count': -1, 'x-gateway-attempts': 1.5, 'x-gateway-exchange': 1 }
    const own = takeOwnHeaders({ ...forged, mine: 1 })!
    assert.deepEqual(
      Object.values(readOwnRecord(own, 'q')!).filter((value) => value !== undefined),
      ['q'],
    )
  })

  it('the exchange of any queue has a name of up to 255 bytes, which no other queue has', () => {
    const queues = ['q', 'x'.repeat(255), 'y'.repeat(255), 'größe', 'grösse', '漢'.repeat(85)]
    const exchanges = queues.map(copyExchange)
    for (const exchange of exchanges) assert.ok(exchange.length <= 255 && /^[\x20-\x7e]+$/.test(exchange))
    assert.equal(new Set(exchanges).size, queues.length)
  })
})
