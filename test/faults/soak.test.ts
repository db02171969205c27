// Producers and workers over HTTP through several gateways, while connections, gateways and the broker fail, and the proof that
// no message is lost and no settled message returns. `npm run test:soak` runs the same for longer.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startBroker } from '../../scripts/broker.mjs'
import { brokerFaults, connectionFaults, forwardingFaults, gatewayFaults, queueFaults, restartFaults } from '../soak/faults.js'
import { checkInvariants, formatReports, type Report, violations } from '../soak/invariants.js'
import type { Journal, Settle } from '../soak/journal.js'
import { MAX_REQUEST_MS, runSoak, SOAK_BROKER } from '../soak/soak.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-soak-'))
const broker = await startBroker({ dir, ...SOAK_BROKER })
const reports = new Map<string, Report>()
after(async () => {
  console.log(formatReports(reports))
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})

const FAULTS = [
  { faults: connectionFaults, every: 600 },
  { faults: { ...forwardingFaults, ...gatewayFaults }, every: 1500 },
  { faults: { ...brokerFaults, ...restartFaults }, every: 500 },
  { faults: queueFaults, every: 2000 },
]
const KINDS = FAULTS.flatMap(({ faults }) => Object.keys(faults))
/** A run goes on until it has this many faults and messages, however slow the machine is. */
const MIN = { faults: 25, confirmed: 1300, settled: 1200 }

const missingFaults = ({ faults }: Journal): string[] => [
  ...KINDS.filter((kind) => !faults.some(({ name }) => name === kind)),
  ...(faults.length < MIN.faults ? [`${MIN.faults - faults.length} faults`] : []),
]
const isFinal = ({ verdict, result }: Settle) => (verdict === 'ack' || verdict === 'reject') && result === 'done'
const missingMessages = ({ publishes, settles }: Journal): string[] => {
  const confirmed = publishes.filter(({ outcome }) => outcome === 'confirmed').length
  const settled = new Set(settles.filter(isFinal).map(({ id }) => id)).size
  return [
    ...(confirmed < MIN.confirmed ? [`${MIN.confirmed - confirmed} confirmed messages`] : []),
    ...(settled < MIN.settled ? [`${MIN.settled - settled} settled messages`] : []),
  ]
}

describe('soak test', () => {
  for (const queueType of ['classic', 'quorum'] as const) {
    it(`the gateways lose no message of a ${queueType} queue and redeliver none after its settle`, {
      timeout: 300_000,
    }, async () => {
      const { report, journal, crashed } = await runSoak({
        brokers: [broker],
        queueType,
        duration: 10_000,
        faults: FAULTS,
        faultsUntil: (journal) => missingFaults(journal).length === 0,
        loadUntil: (journal) => missingMessages(journal).length === 0,
      })
      reports.set(queueType, report)
      assert.deepEqual(violations(report, MAX_REQUEST_MS), [])
      assert.deepEqual(crashed, [])
      assert.deepEqual(
        [...missingFaults(journal), ...missingMessages(journal)],
        [],
        formatReports(new Map([[queueType, report]])),
      )
    })
  }

  it('the invariants are violated by a gateway that answers a settle before the broker has read it', {
    timeout: 180_000,
  }, async () => {
    const noMessages = { queued: new Map(), dead: [], leftovers: [] }
    const { report } = await runSoak({
      brokers: [broker],
      queueType: 'classic',
      duration: 1000,
      faults: [{ faults: { cut: connectionFaults['connections frozen, then reset']! }, every: 500 }],
      faultsUntil: (journal) => checkInvariants(journal, noMessages).redeliveredAfterSettle.length > 0,
      program: 'dist/test/soak/no-barrier-gateway.js',
    })
    reports.set('without a barrier', report)
    assert.ok(report.redeliveredAfterSettle.length > 0, formatReports(new Map([['without a barrier', report]])))
  })
})
