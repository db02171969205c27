// Storms: producers and workers over HTTP through several gateways, while connections, gateways and the broker fail; and the
// proof that nothing was lost and nothing came back. `npm run test:soak` is the same for longer.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startBroker } from '../../scripts/broker.mjs'
import { brokerFaults, connectionFaults, doorFaults, gatewayFaults, queueFaults, restarts } from '../soak/faults.js'
import { type Report, table, violations } from '../soak/invariants.js'
import { LONGEST, STORM_BROKER, storm } from '../soak/soak.js'

const dir = await mkdtemp(join(tmpdir(), 'gateway-storm-'))
const broker = await startBroker({ dir, ...STORM_BROKER })
const reports = new Map<string, Report>()
after(async () => {
  console.log(table(reports))
  await broker.stop()
  await rm(dir, { recursive: true, force: true })
})

describe('a storm', () => {
  for (const queueType of ['classic', 'quorum'] as const) {
    it(`loses nothing, and brings nothing back that was settled (${queueType})`, { timeout: 180_000 }, async () => {
      const { report, crashed } = await storm({
        brokers: [broker],
        queueType,
        duration: 30_000,
        faults: [
          { faults: { ...connectionFaults, ...doorFaults, ...gatewayFaults }, every: 1000 },
          { faults: { ...brokerFaults, ...restarts }, every: 3000 },
          { faults: queueFaults, every: 4000 },
        ],
      })
      reports.set(queueType, report)
      assert.deepEqual(violations(report, LONGEST), [])
      assert.deepEqual(crashed, [])
      assert.ok(report.settled > 100 && report.faults >= 5, table(new Map([[queueType, report]])))
    })
  }

  it('is seen to break its promise where a settle is answered before the broker has read it', { timeout: 120_000 }, async () => {
    const { report } = await storm({
      brokers: [broker],
      queueType: 'classic',
      duration: 10_000,
      faults: [{ faults: { cut: connectionFaults['a line cut after it stood still']! }, every: 800 }],
      program: 'dist/test/soak/no-barrier-gateway.js',
    })
    reports.set('without a barrier', report)
    assert.ok(report.cameBack.length > 0, table(new Map([['without a barrier', report]])))
  })
})
