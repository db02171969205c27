// Tickets for streams: who can open them, and until when.

import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { Tickets } from '../../src/access/tickets.js'
import { loadConfig } from '../../src/config/index.js'

const ticketsOf = (env: Record<string, string>) => new Tickets(loadConfig({ AMQP_URL: 'amqp://user:password@host', ...env }))
const SECRET = 'a secret of enough bytes'
const TICKET = { authorization: 'Bearer key', vhost: '/', queue: 'news', query: { ack: 'auto', prefetch: 5 } }

describe('tickets', () => {
  it('a ticket is opened by every instance with the same secret, and by no other', () => {
    const { ticket } = ticketsOf({ LEASE_SECRET: SECRET }).create(TICKET)
    assert.deepEqual(ticketsOf({ LEASE_SECRET: SECRET }).open(ticket, false), TICKET)
    assert.equal(ticketsOf({ LEASE_SECRET: `${SECRET}!` }).open(ticket, false), undefined)
    assert.equal(ticketsOf({}).open(ticket, false), undefined)
  })

  it('a ticket does not show the credentials that it holds', () => {
    const { ticket } = ticketsOf({}).create(TICKET)
    const bytes = Buffer.from(ticket, 'base64url').toString('latin1')
    for (const part of ['Bearer', 'key', 'news', 'auto']) assert.ok(!bytes.includes(part), part)
  })

  it('a ticket with a changed or missing bit, and other text, is refused', () => {
    const tickets = ticketsOf({})
    const bytes = Buffer.from(tickets.create(TICKET).ticket, 'base64url')
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes)
      changed[at]! ^= 1
      assert.equal(tickets.open(changed.toString('base64url'), false), undefined, `byte ${at}`)
      assert.equal(tickets.open(bytes.subarray(0, at).toString('base64url'), false), undefined, `${at} bytes`)
    }
    for (const text of ['', 'x', '%%%', 'a'.repeat(100)]) assert.equal(tickets.open(text, true), undefined, text)
  })

  it('a client may connect with a ticket for a minute, and reconnect for an hour', () => {
    mock.timers.enable({ apis: ['Date'], now: 1_800_000_000_000 })
    try {
      const tickets = ticketsOf({})
      const { ticket, expiresAt } = tickets.create(TICKET)
      assert.equal(expiresAt, 1_800_000_060_000)
      mock.timers.setTime(1_800_000_060_000)
      assert.ok(tickets.open(ticket, false))
      mock.timers.setTime(1_800_000_060_001)
      assert.equal(tickets.open(ticket, false), undefined)
      mock.timers.setTime(1_800_003_600_000)
      assert.ok(tickets.open(ticket, true))
      mock.timers.setTime(1_800_003_600_001)
      assert.equal(tickets.open(ticket, true), undefined)
    } finally {
      mock.timers.reset()
    }
  })
})
