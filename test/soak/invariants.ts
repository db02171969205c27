// The proof: from what was written down, and from what was left, whether every promise was kept.

import type { Journal, Publish } from './journal.js'

/** What was there when the storm was over and everything had come to rest. */
export interface Remains {
  /** Ids of the messages still in each queue. */
  queued: Map<string, string[]>
  /** Ids of dead-lettered messages. */
  dead: string[]
  /** Connections, channels, consumers and control queues of gateways that had all ended. */
  leftovers: string[]
}

export interface Report {
  requests: number
  faults: number
  confirmed: number
  settled: number
  unknown: number
  /** Published or given back with a delay: these may come twice, and none may be lost. */
  delayed: number
  /** Confirmed, and deleted with their queue. */
  excused: number
  /** Taken back by RabbitMQ's consumer timeout. */
  takenBack: number
  lost: string[]
  /** Called not stored, and seen. */
  appeared: string[]
  /** Delivered by a receive that began after the message's ack or reject was answered with success. */
  cameBack: string[]
  settledTwice: string[]
  overFetched: number
  longestRequest: number
  leftovers: string[]
  surprises: string[]
}

export interface CheckOptions {
  /** Of a crash of the broker's own node: acks that a classic queue had not written yet come back. */
  crashes?: number[]
  /** How long before a crash such an ack may have been answered, in milliseconds. */
  crashWindow?: number
}

/** Weighs the journal against what is left. Every list that should be empty names the messages that break the promise. */
export function check(journal: Journal, remains: Remains, { crashes = [], crashWindow = 2000 }: CheckOptions = {}): Report {
  const undone = (answered: number) => crashes.some((at) => answered <= at && at - answered < crashWindow)
  const final = journal.settles.filter(({ verdict, result }) => (verdict === 'ack' || verdict === 'reject') && result === 'done')
  const once = (id: string) => !journal.delayed.has(id)
  const settledAt = new Map<string, number>()
  const leasesOf = new Map<string, Set<string>>()
  for (const { id, lease, answered } of final) {
    if (undone(answered)) continue
    settledAt.set(id, Math.min(settledAt.get(id) ?? Number.POSITIVE_INFINITY, answered))
    const leases = leasesOf.get(id) ?? new Set()
    leasesOf.set(id, leases.add(lease))
  }
  const settled = new Set(final.map(({ id }) => id))
  const unknown = new Set(journal.settles.filter(({ result }) => result === 'unknown').map(({ id }) => id))
  const left = new Set([...[...remains.queued.values()].flat(), ...remains.dead])
  const seen = new Set([...left, ...journal.deliveries.map(({ id }) => id)])

  const confirmed = journal.publishes.filter(({ outcome }) => outcome === 'confirmed')
  const missing = confirmed.filter(({ id }) => !settled.has(id) && !unknown.has(id) && !left.has(id))
  const excused = ({ queue, asked }: Publish) =>
    journal.deletions.some((deletion) => deletion.queue === queue && asked <= deletion.until)
  return {
    requests: journal.requests,
    faults: journal.faults.length,
    confirmed: confirmed.length,
    settled: settled.size,
    delayed: journal.delayed.size,
    unknown: [...unknown].filter((id) => !settled.has(id)).length,
    excused: missing.filter(excused).length,
    takenBack: journal.takenBack,
    lost: missing.filter((publish) => !excused(publish)).map(({ id }) => id),
    appeared: journal.publishes.filter(({ id, outcome }) => outcome === 'not_stored' && seen.has(id)).map(({ id }) => id),
    cameBack: [
      ...journal.deliveries
        .filter(({ id, asked }) => once(id) && asked > (settledAt.get(id) ?? Number.POSITIVE_INFINITY))
        .map(({ id }) => id),
      // What was acked is in no queue; what was rejected may be among the dead.
      ...[...remains.queued.values()].flat().filter((id) => once(id) && settledAt.has(id)),
    ],
    settledTwice: [...leasesOf].filter(([id, leases]) => once(id) && leases.size > 1).map(([id]) => id),
    overFetched: journal.overFetched,
    longestRequest: Math.round(journal.longestRequest),
    leftovers: remains.leftovers,
    surprises: journal.surprises,
  }
}

/** What was not kept, a line each; empty when all was. @param longest milliseconds that a request may take at most */
export function violations(report: Report, longest: number): string[] {
  const broken: string[] = []
  for (const name of ['lost', 'appeared', 'cameBack', 'settledTwice', 'leftovers', 'surprises'] as const) {
    if (report[name].length > 0) broken.push(`${name}: ${report[name].slice(0, 5).join(', ')} (${report[name].length})`)
  }
  if (report.overFetched > 0) broken.push(`over-fetched: ${report.overFetched}`)
  if (report.longestRequest > longest) broken.push(`a request took ${report.longestRequest} ms`)
  return broken
}

const ROWS: [heading: string, value: (report: Report) => string | number][] = [
  ['faults', ({ faults }) => faults],
  ['requests', ({ requests }) => requests],
  ['confirmed', ({ confirmed }) => confirmed],
  ['settled', ({ settled }) => settled],
  ['delayed', ({ delayed }) => delayed],
  ['unknown', ({ unknown }) => unknown],
  ['deleted with their queue', ({ excused }) => excused],
  ['taken back by RabbitMQ', ({ takenBack }) => takenBack],
  ['lost', ({ lost }) => lost.length],
  ['"not stored" and there', ({ appeared }) => appeared.length],
  ['came back after 204', ({ cameBack }) => cameBack.length],
  ['settled twice', ({ settledTwice }) => settledTwice.length],
  ['over-fetched', ({ overFetched }) => overFetched],
  ['longest request, ms', ({ longestRequest }) => longestRequest],
  ['leftovers on the broker', ({ leftovers }) => leftovers.length],
  ['unexplained answers', ({ surprises }) => surprises.length],
]

/** The table that people read, a column for each storm. */
export function table(reports: Map<string, Report>): string {
  const columns = [['', ...ROWS.map(([heading]) => heading)]]
  for (const [name, report] of reports) columns.push([name, ...ROWS.map(([, value]) => String(value(report)))])
  const widths = columns.map((cells) => Math.max(...cells.map((cell) => cell.length)))
  return columns[0]!
    .map((_, row) =>
      columns.map((cells, n) => (n === 0 ? cells[row]!.padEnd(widths[n]!) : cells[row]!.padStart(widths[n]!))).join('  '),
    )
    .join('\n')
}
