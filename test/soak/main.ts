// The soak test from the command line:
//   node dist/test/soak/main.js [--minutes 1] [--broker system|4.0|4.3|4.3-strict|cluster]… [--queue classic|quorum]…
//     [--crash] [--no-barrier]
// Runs once for each broker and queue type, by default the system's broker with both types. Prints a table of the reports and
// exits with 1 if an invariant is violated.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Broker, startBroker } from '../../scripts/broker.mjs'
import { startCluster } from '../../scripts/cluster.mjs'
import { SUITES, unpackRabbitmq } from '../../scripts/unpack-rabbitmq.mjs'
import {
  brokerFaults,
  clusterFaults,
  connectionFaults,
  crashFaults,
  forwardingFaults,
  gatewayFaults,
  queueFaults,
  restartFaults,
} from './faults.js'
import { formatReports, type Report, violations } from './invariants.js'
import type { Journal } from './journal.js'
import { describeMemory, MEMORY_CHECK_MS } from './memory.js'
import { MAX_REQUEST_MS, runSoak, SOAK_BROKER } from './soak.js'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    broker: { type: 'string', multiple: true, default: ['system'] },
    queue: { type: 'string', multiple: true, default: ['classic', 'quorum'] },
    crash: { type: 'boolean', default: false },
    'no-barrier': { type: 'boolean', default: false },
  },
})

/** What RabbitMQ 4.3 warns of or denies, but for what its management plugin needs for the soak test. */
const DEPRECATED_FEATURES = ['transient_nonexcl_queues', 'global_qos', 'queue_master_locator', 'amqp_address_v1']

const reports = new Map<string, Report>()
let failed = false
for (const kind of values.broker) {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-soak-'))
  const brokers = await start(kind, dir)
  for (const queueType of values.queue as ('classic' | 'quorum')[]) await soakBroker(`${kind} ${queueType}`, brokers, queueType)
  for (const broker of brokers) await broker.stop()
  rmSync(dir, { recursive: true, force: true })
}
console.log(formatReports(reports))
process.exit(failed ? 1 : 0)

async function start(kind: string, dir: string): Promise<Broker[]> {
  if (kind === 'system') return [await startBroker({ dir, ...SOAK_BROKER })]
  if (kind === 'cluster') return startCluster({ dir, ...SOAK_BROKER })
  if (kind === '4.3-strict') {
    const config = [SOAK_BROKER.config, ...DEPRECATED_FEATURES.map((name) => `deprecated_features.permit.${name} = false`)]
    return [await startBroker({ dir, ...SOAK_BROKER, config: config.join('\n'), root: await unpackRabbitmq(4.3) })]
  }
  if (!(kind in SUITES))
    throw new Error(`unknown broker ${kind}; known are system, cluster, 4.3-strict, ${Object.keys(SUITES).join(', ')}`)
  return [await startBroker({ dir, ...SOAK_BROKER, root: await unpackRabbitmq(kind as keyof typeof SUITES) })]
}

async function soakBroker(name: string, brokers: Broker[], queueType: 'classic' | 'quorum'): Promise<void> {
  const ofBroker = brokers.length > 1 ? clusterFaults : values.crash ? crashFaults : restartFaults
  const duration = Number(values.minutes) * 60_000
  const result = await runSoak({
    brokers,
    queueType,
    duration,
    faults: [
      { faults: { ...connectionFaults, ...forwardingFaults, ...gatewayFaults }, every: 1500 },
      { faults: { ...brokerFaults, ...ofBroker }, every: 6000 },
      { faults: queueFaults, every: 5000 },
    ],
    ...(values['no-barrier'] && { program: 'dist/test/soak/no-barrier-gateway.js' }),
    onProgress: progressLine(name),
  })
  if (process.stderr.isTTY) process.stderr.write('\n')
  reports.set(name, result.report)
  const broken = [...violations(result.report, MAX_REQUEST_MS), ...result.crashed.map((text) => `a gateway crashed: ${text}`)]
  console.error(`${name}: ${faultsOf(result.journal)}`)
  for (const memory of result.memory) console.error(`${name}: memory of a gateway that ran to the end: ${describeMemory(memory)}`)
  if (duration >= MEMORY_CHECK_MS) {
    if (result.memory.length === 0) broken.push('no gateway ran to the end, so its memory cannot be judged')
    for (const memory of result.memory) if (memory.grew) broken.push(`memory grew: ${describeMemory(memory)}`)
  }
  for (const line of broken) console.error(`✗ ${name}: ${line}`)
  const { lost, redeliveredAfterSettle, settledTwice, storedAfterRefusal } = result.report
  for (const id of [...lost, ...redeliveredAfterSettle, ...settledTwice, ...storedAfterRefusal].slice(0, 5))
    console.error(history(result.journal, id))
  failed ||= broken.length > 0
}

/** On a terminal a line that it overwrites, otherwise a line every minute. */
function progressLine(name: string): (text: string) => void {
  let last = Date.now()
  return (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${name}: ${text}`)
    else if (Date.now() - last >= 60_000) {
      last = Date.now()
      console.error(`${name}: ${text}`)
    }
  }
}

/** The faults of a run, each with its number. */
function faultsOf({ faults }: Journal): string {
  const counts = new Map<string, number>()
  for (const { name } of faults) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].map(([name, count]) => `${name} ${count}×`).join(', ')
}

/** Everything that the journal has about a message, and the faults within 2 s, in order of time. */
function history({ publishes, deliveries, settles, faults }: Journal, id: string): string {
  const of = <T extends { id: string }>(list: T[]) => list.filter((one) => one.id === id)
  const events = [
    ...of(deliveries).map((one) => ({ at: one.requestedAt, text: `requested: ${JSON.stringify(one)}` })),
    ...of(settles).map((one) => ({ at: one.answeredAt, text: JSON.stringify(one) })),
  ]
  const [from, to] = [Math.min(...events.map(({ at }) => at)) - 2000, Math.max(...events.map(({ at }) => at)) + 2000]
  const near = faults.filter(({ at }) => at > from && at < to).map(({ at, name }) => ({ at, text: `fault: ${name}` }))
  const lines = [...events, ...near].sort((a, b) => a.at - b.at).map(({ at, text }) => `    ${at} ${text}`)
  return [`  ${id}: ${JSON.stringify(of(publishes))}`, ...lines].join('\n')
}
