// The results of cases, as they are printed and written to files.

import type { Ratio, Spread } from './statistics.js'

/** A target for the first candidate, as a ratio to another candidate of the same rounds. */
export interface Aim {
  metric: 'rate' | 'p99'
  against: string
  /** The ratio to reach on every machine: a minimum for `rate`, a maximum for `p99`. */
  required: number
  /** The ratio to work towards. */
  goal: number
}

/** One candidate over all rounds. */
export interface CandidateResult {
  name: string
  /** Messages per second. */
  rate: Spread
  /** Milliseconds from a request to the end of its response. Absent if messages arrive without a request each. */
  p50?: Spread
  p99?: Spread
  /** Microseconds of processor time per message, of the candidate's own processes only. */
  cpu?: Spread
  /** Microseconds of processor time per message, of the broker. */
  brokerCpu?: Spread
  /** Resident bytes of the candidate's own processes after the round. */
  memory?: Spread
}

/** The first candidate divided by another one. */
export interface CandidateRatio {
  against: string
  metric: 'rate' | 'p99' | 'cpu'
  ratio: Ratio
  aim?: Aim
}

/** Several candidates that did the same work in the same rounds. */
export interface ComparisonResult {
  kind: 'comparison'
  name: string
  note?: string
  candidates: CandidateResult[]
  ratios: CandidateRatio[]
}

/** One quantity, with the value that it should not exceed. */
export interface Figure {
  label: string
  unit: 'KiB' | 'MiB' | '%' | 's' | 'responses'
  value: Spread
  limit?: number
  goal?: number
}

export interface FiguresResult {
  kind: 'figures'
  name: string
  note?: string
  figures: Figure[]
}

/** How the time per message grows with a quantity, such as open leases. */
export interface GrowthResult {
  kind: 'growth'
  name: string
  note?: string
  /** What `at` counts. */
  quantity: string
  points: GrowthPoint[]
  /** Why the points end early. */
  failure?: string
}

export interface GrowthPoint {
  at: number
  /** Microseconds per message, over all connections. */
  time: Spread
  /** `time` divided by that of an instance with almost nothing open, which did the same work in the same rounds. */
  ratio: Ratio
  /** Microseconds of the gateway's processor time per message, and their ratio to that instance. */
  cpu: Spread
  cpuRatio: Ratio
  /** The same ratio of times for amqplib: the broker's own share of the growth. */
  amqplib?: Ratio
}

export interface FailedResult {
  kind: 'failed'
  name: string
  reason: string
}

export type Result = ComparisonResult | FiguresResult | GrowthResult | FailedResult

/** Which mark of its aim a ratio reaches. Undefined if it has no aim or its rounds disagree. */
export function aimStatus({ ratio, aim }: CandidateRatio): 'goal' | 'required' | 'missed' | undefined {
  if (!aim || !ratio.agree) return undefined
  const reached = (mark: number) => (aim.metric === 'rate' ? ratio.median >= mark : ratio.median <= mark)
  return reached(aim.goal) ? 'goal' : reached(aim.required) ? 'required' : 'missed'
}
