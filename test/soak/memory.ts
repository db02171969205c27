// Whether a process grows: its resident memory during a soak test, from a warm process to the end.

import { existsSync, readFileSync } from 'node:fs'

/** The allowed ratio of the memory at the end to that of the warm process. */
const MAX_GROWTH = 1.2
/** The shortest run whose memory is checked: in a shorter one the process is not warm after a tenth of the time. */
export const MEMORY_CHECK_MS = 10 * 60_000

export interface Memory {
  /** The median of each tenth of the run, in MiB. */
  tenths: number[]
  /** The first of them, when the process is warm. */
  start: number
  end: number
  grew: boolean
}

/** Judges the growth of a process. @param samples in MiB, taken at equal intervals, at least one */
export function memoryOf(samples: number[]): Memory {
  const at = (tenth: number) => Math.floor((samples.length * tenth) / 10)
  const tenths = Array.from({ length: 10 }, (_, n) => median(samples.slice(at(n), Math.max(at(n) + 1, at(n + 1)))))
  const [start, end] = [tenths[0]!, tenths.at(-1)!]
  return { tenths, start, end, grew: end > start * MAX_GROWTH }
}

/** One line with the memory at the start and the end, the change in percent and the median of each tenth. */
export function describeMemory({ tenths, start, end }: Memory): string {
  const change = Math.round((end / start - 1) * 100)
  return `${start} MiB after the first tenth, ${end} MiB at the end: ${change >= 0 ? '+' : ''}${change} % (each tenth: ${tenths.join(' ')})`
}

/** The resident memory of a process in MiB, or undefined if it has ended. */
export function residentMiB(pid: number): number | undefined {
  if (!existsSync(`/proc/${pid}/status`)) return undefined
  const found = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return found ? Math.round(Number(found[1]) / 1024) : undefined
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}
