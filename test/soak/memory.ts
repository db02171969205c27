// Whether a process grows: its resident memory through a storm, from when it was warm to the end.

import { existsSync, readFileSync } from 'node:fs'

/** What it may have grown by at the end. */
const MOST = 1.2
/** Of a storm that shows something: in shorter ones a tenth is no time to become warm in. */
export const LONG_ENOUGH = 10 * 60_000

export interface Memory {
  /** Medians of each tenth of the storm, in MiB. */
  tenths: number[]
  /** The first of them: by then everything has been used once. */
  start: number
  end: number
  grew: boolean
}

/** @param samples in MiB, taken in equal steps */
export function memoryOf(samples: number[]): Memory {
  const at = (tenth: number) => Math.floor((samples.length * tenth) / 10)
  const tenths = Array.from({ length: 10 }, (_, n) => median(samples.slice(at(n), Math.max(at(n) + 1, at(n + 1)))))
  const [start, end] = [tenths[0]!, tenths.at(-1)!]
  return { tenths, start, end, grew: end > start * MOST }
}

export function describeMemory({ tenths, start, end }: Memory): string {
  const change = Math.round((end / start - 1) * 100)
  return `${start} MiB after the first tenth, ${end} MiB at the end: ${change >= 0 ? '+' : ''}${change} % (each tenth: ${tenths.join(' ')})`
}

/** Resident memory of a process, in MiB; undefined when it has just ended. */
export function residentMiB(pid: number): number | undefined {
  if (!existsSync(`/proc/${pid}/status`)) return undefined
  const found = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return found ? Math.round(Number(found[1]) / 1024) : undefined
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}
