// The invariants of a soak test: whether the journal and the final state of the broker keep every promise of the gateway.

import type { Journal, Publish } from './journal.js'

/** The messages and objects on the broker after the load has stopped and all queues were drained. */
export interface FinalState {
  /** Ids of the messages that were left in each queue. */
  queued: Map<string, string[]>
  /** Ids of dead-lettered messages. */
  dead: string[]
  /** Connections, consumers and control queues after all gateways have ended. */
  leftovers: string[]
}

export interface Report {
  requests: number
  faults: number
  confirmed: number
  settled: number
  /** Messages whose settle has no known outcome. */
  unknown: number
  /** Messages published or nacked with a delay: they may arrive twice, but none may be lost. */
  delayed: number
  /** Messages that were confirmed and deleted with their queue. */
  deletedWithQueue: number
  /** Leases ended by RabbitMQ's consumer timeout. */
  takenBack: number
  /** Messages that were confirmed and are gone without a settle. */
  lost: string[]
  /** Messages that exist although their publish was answered as not stored. */
  storedAfterRefusal: string[]
  /** Messages delivered by a receive that began after their ack or reject succeeded, or still in a queue. */
  redeliveredAfterSettle: string[]
  /** Messages with successful acks or rejects under two leases. */
  settledTwice: string[]
  overFetched: number
  /** Messages behind others in one answer that were published after they had been confirmed. */
  outOfOrder: string[]
  longestRequestMs: number
  leftovers: string[]
  unexpected: string[]
}

export interface CheckOptions {
  /** When the broker's only node crashed: messages return whose acks a classic queue had not written yet. */
  crashes?: number[]
  /** The time before a crash in which such an ack may have been answered, in milliseconds. */
  crashWindow?: number
}

/** Compares the journal with the final state. The lists of the report have the ids of the messages that break a promise. */
export function checkInvariants(
  journal: Journal,
  finalState: FinalState,
  { crashes = [], crashWindow = 2000 }: CheckOptions = {},
): Report {
  const undone = (answered: number) => crashes.some((at) => answered <= at && at - answered < crashWindow)
  const final = journal.settles.filter(({ verdict, result }) => (verdict === 'ack' || verdict === 'reject') && result === 'done')
  const once = (id: string) => !journal.delayed.has(id)
  const settledAt = new Map<string, number>()
  const leasesOf = new Map<string, Set<string>>()
  for (const { id, lease, answeredAt } of final) {
    if (undone(answeredAt)) continue
    settledAt.set(id, Math.min(settledAt.get(id) ?? Number.POSITIVE_INFINITY, answeredAt))
    const leases = leasesOf.get(id) ?? new Set()
    leasesOf.set(id, leases.add(lease))
  }
  const settled = new Set(final.map(({ id }) => id))
  const unknown = new Set(journal.settles.filter(({ result }) => result === 'unknown').map(({ id }) => id))
  const left = new Set([...[...finalState.queued.values()].flat(), ...finalState.dead])
  const seen = new Set([...left, ...journal.deliveries.map(({ id }) => id)])

  const confirmed = journal.publishes.filter(({ outcome }) => outcome === 'confirmed')
  const missing = confirmed.filter(({ id }) => !settled.has(id) && !unknown.has(id) && !left.has(id))
  const excused = ({ queue, requestedAt }: Publish) =>
    journal.deletions.some((deletion) => deletion.queue === queue && requestedAt <= deletion.recreatedAt)
  return {
    requests: journal.requests,
    faults: journal.faults.length,
    confirmed: confirmed.length,
    settled: settled.size,
    delayed: journal.delayed.size,
    unknown: [...unknown].filter((id) => !settled.has(id)).length,
    deletedWithQueue: missing.filter(excused).length,
    takenBack: journal.takenBack,
    lost: missing.filter((publish) => !excused(publish)).map(({ id }) => id),
    storedAfterRefusal: journal.publishes
      .filter(({ id, outcome }) => outcome === 'not_stored' && seen.has(id))
      .map(({ id }) => id),
    redeliveredAfterSettle: [
      ...journal.deliveries
        .filter(({ id, requestedAt }) => once(id) && requestedAt > (settledAt.get(id) ?? Number.POSITIVE_INFINITY))
        .map(({ id }) => id),
      // An acked message is in no queue. A rejected one may be dead-lettered.
      ...[...finalState.queued.values()].flat().filter((id) => once(id) && settledAt.has(id)),
    ],
    settledTwice: [...leasesOf].filter(([id, leases]) => once(id) && leases.size > 1).map(([id]) => id),
    overFetched: journal.overFetched,
    outOfOrder: outOfOrder(journal),
    longestRequestMs: Math.round(journal.longestRequestMs),
    leftovers: finalState.leftovers,
    unexpected: journal.unexpected,
  }
}

/** Only first deliveries: what came back, or was delayed, may have another place. */
function outOfOrder({ answers, publishes, delayed }: Journal): string[] {
  const confirmed = new Map(publishes.filter(({ outcome }) => outcome === 'confirmed').map((publish) => [publish.id, publish]))
  return answers.flatMap((answer) => {
    let latest = Number.NEGATIVE_INFINITY
    return answer.flatMap(({ id, redelivered }) => {
      const publish = confirmed.get(id)
      if (!publish || redelivered || delayed.has(id)) return []
      const isBehind = publish.answeredAt < latest
      latest = Math.max(latest, publish.requestedAt)
      return isBehind ? [id] : []
    })
  })
}

/** One line for each broken promise. @param longest the time that a request may take, in milliseconds */
export function violations(report: Report, longest: number): string[] {
  const broken: string[] = []
  for (const name of [
    'lost',
    'storedAfterRefusal',
    'redeliveredAfterSettle',
    'settledTwice',
    'outOfOrder',
    'leftovers',
    'unexpected',
  ] as const) {
    if (report[name].length > 0) broken.push(`${name}: ${report[name].slice(0, 5).join(', ')} (${report[name].length})`)
  }
  if (report.overFetched > 0) broken.push(`over-fetched: ${report.overFetched}`)
  if (report.longestRequestMs > longest) broken.push(`a request took ${report.longestRequestMs} ms`)
  return broken
}

const ROWS: [heading: string, value: (report: Report) => string | number][] = [
  ['faults', ({ faults }) => faults],
  ['requests', ({ requests }) => requests],
  ['confirmed', ({ confirmed }) => confirmed],
  ['settled', ({ settled }) => settled],
  ['delayed', ({ delayed }) => delayed],
  ['unknown', ({ unknown }) => unknown],
  ['deleted with their queue', ({ deletedWithQueue }) => deletedWithQueue],
  ['ended by consumer timeout', ({ takenBack }) => takenBack],
  ['lost', ({ lost }) => lost.length],
  ['stored after a refusal', ({ storedAfterRefusal }) => storedAfterRefusal.length],
  ['redelivered after a settle', ({ redeliveredAfterSettle }) => redeliveredAfterSettle.length],
  ['settled twice', ({ settledTwice }) => settledTwice.length],
  ['over-fetched', ({ overFetched }) => overFetched],
  ['out of order', ({ outOfOrder }) => outOfOrder.length],
  ['longest request, ms', ({ longestRequestMs }) => longestRequestMs],
  ['leftovers on the broker', ({ leftovers }) => leftovers.length],
  ['unexpected responses', ({ unexpected }) => unexpected.length],
]

/** The reports as a text table, with one column per run. */
export function formatReports(reports: Map<string, Report>): string {
  const columns = [['', ...ROWS.map(([heading]) => heading)]]
  for (const [name, report] of reports) columns.push([name, ...ROWS.map(([, value]) => String(value(report)))])
  const widths = columns.map((cells) => Math.max(...cells.map((cell) => cell.length)))
  return columns[0]!
    .map((_, row) =>
      columns.map((cells, n) => (n === 0 ? cells[row]!.padEnd(widths[n]!) : cells[row]!.padStart(widths[n]!))).join('  '),
    )
    .join('\n')
}
