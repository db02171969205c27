// Storms from the command line, for as long as one likes:
//   node dist/test/soak/main.js [--minutes 5] [--broker system|4.0|4.3|cluster]… [--queue classic|quorum]… [--crash] [--no-barrier]
// Without --queue classic and quorum, one after the other. Prints the checker's table; ends with 1 where a promise was broken.

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
  crashes,
  doorFaults,
  gatewayFaults,
  queueFaults,
  restarts,
} from './faults.js'
import { type Report, table, violations } from './invariants.js'
import type { Journal } from './journal.js'
import { describeMemory, LONG_ENOUGH } from './memory.js'
import { LONGEST, STORM_BROKER, storm } from './soak.js'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    broker: { type: 'string', multiple: true, default: ['system'] },
    queue: { type: 'string', multiple: true, default: ['classic', 'quorum'] },
    crash: { type: 'boolean', default: false },
    'no-barrier': { type: 'boolean', default: false },
  },
})

const reports = new Map<string, Report>()
let failed = false
for (const kind of values.broker) {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-storm-'))
  const brokers = await start(kind, dir)
  for (const queueType of values.queue as ('classic' | 'quorum')[]) await rageOver(`${kind} ${queueType}`, brokers, queueType)
  for (const broker of brokers) await broker.stop()
  rmSync(dir, { recursive: true, force: true })
}
console.log(table(reports))
process.exit(failed ? 1 : 0)

async function start(kind: string, dir: string): Promise<Broker[]> {
  if (kind === 'system') return [await startBroker({ dir, ...STORM_BROKER })]
  if (kind === 'cluster') return startCluster({ dir, ...STORM_BROKER })
  if (!(kind in SUITES)) throw new Error(`there is no broker ${kind}: system, cluster, ${Object.keys(SUITES).join(', ')}`)
  return [await startBroker({ dir, ...STORM_BROKER, root: await unpackRabbitmq(kind as keyof typeof SUITES) })]
}

async function rageOver(name: string, brokers: Broker[], queueType: 'classic' | 'quorum'): Promise<void> {
  const ofBroker = brokers.length > 1 ? clusterFaults : values.crash ? crashes : restarts
  const duration = Number(values.minutes) * 60_000
  const result = await storm({
    brokers,
    queueType,
    duration,
    faults: [
      { faults: { ...connectionFaults, ...doorFaults, ...gatewayFaults }, every: 1500 },
      { faults: { ...brokerFaults, ...ofBroker }, every: 6000 },
      { faults: queueFaults, every: 5000 },
    ],
    ...(values['no-barrier'] && { program: 'dist/test/soak/no-barrier-gateway.js' }),
    onProgress: progress(name),
  })
  if (process.stderr.isTTY) process.stderr.write('\n')
  reports.set(name, result.report)
  const broken = [...violations(result.report, LONGEST), ...result.crashed.map((text) => `a gateway ended by itself: ${text}`)]
  console.error(`${name}: ${faultsOf(result.journal)}`)
  for (const memory of result.memory)
    console.error(`${name}: memory of a gateway that lived through it: ${describeMemory(memory)}`)
  if (duration >= LONG_ENOUGH) {
    if (result.memory.length === 0) broken.push('no gateway lived through it, so nothing is known of its memory')
    for (const memory of result.memory) if (memory.grew) broken.push(`memory grew: ${describeMemory(memory)}`)
  }
  for (const line of broken) console.error(`✗ ${name}: ${line}`)
  const { lost, cameBack, settledTwice, appeared } = result.report
  for (const id of [...lost, ...cameBack, ...settledTwice, ...appeared].slice(0, 5)) console.error(history(result.journal, id))
  failed ||= broken.length > 0
}

/** A line that is written over on a terminal; elsewhere one a minute. */
function progress(name: string): (text: string) => void {
  let last = Date.now()
  return (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${name}: ${text}`)
    else if (Date.now() - last >= 60_000) {
      last = Date.now()
      console.error(`${name}: ${text}`)
    }
  }
}

/** What happened, and how often. */
function faultsOf({ faults }: Journal): string {
  const counts = new Map<string, number>()
  for (const { name } of faults) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].map(([name, count]) => `${name} ${count}×`).join(', ')
}

/** All that was written down of a message, in order. */
function history({ publishes, deliveries, settles, faults }: Journal, id: string): string {
  const of = <T extends { id: string }>(list: T[]) => list.filter((one) => one.id === id)
  const events = [
    ...of(deliveries).map((one) => ({ at: one.asked, text: `asked for: ${JSON.stringify(one)}` })),
    ...of(settles).map((one) => ({ at: one.answered, text: JSON.stringify(one) })),
  ]
  const [from, to] = [Math.min(...events.map(({ at }) => at)) - 2000, Math.max(...events.map(({ at }) => at)) + 2000]
  const near = faults.filter(({ at }) => at > from && at < to).map(({ at, name }) => ({ at, text: `fault: ${name}` }))
  const lines = [...events, ...near].sort((a, b) => a.at - b.at).map(({ at, text }) => `    ${at} ${text}`)
  return [`  ${id}: ${JSON.stringify(of(publishes))}`, ...lines].join('\n')
}
