// What a case of the benchmark found out, in the form in which it is printed and written to files.

import type { Ratio, Spread } from './statistics.js'

/** What we hold ourselves to, against another contender of the same rounds. */
export interface Aim {
  of: 'rate' | 'p99'
  against: string
  /** To be reached everywhere: at least so many times their rate, at most so many times their p99. */
  least: number
  goal: number
}

/** One contender over all rounds. */
export interface Measured {
  name: string
  /** Messages per second. */
  rate: Spread
  /** Milliseconds from a request to the end of its answer; absent where messages come without one. */
  p50?: Spread
  p99?: Spread
  /** Microseconds of processor time per message: of the contender's own processes alone. */
  cpu?: Spread
  /** Microseconds of processor time per message: of the broker. */
  brokerCpu?: Spread
  /** Resident bytes of the contender's own processes, after the round. */
  memory?: Spread
}

/** The first contender against another one. */
export interface Comparison {
  against: string
  of: 'rate' | 'p99' | 'cpu'
  ratio: Ratio
  aim?: Aim
}

export interface ContestResult {
  kind: 'contest'
  name: string
  note?: string
  contenders: Measured[]
  comparisons: Comparison[]
}

/** One quantity by itself, with what it should stay below. */
export interface Figure {
  label: string
  unit: 'KiB' | 'MiB' | '%' | 's' | 'answers'
  value: Spread
  most?: number
  goal?: number
}

export interface FiguresResult {
  kind: 'figures'
  name: string
  note?: string
  figures: Figure[]
}

/** How the time per message grows with something. */
export interface GrowthResult {
  kind: 'growth'
  name: string
  note?: string
  /** What is counted in `at`. */
  of: string
  points: GrowthPoint[]
  /** Why there are no more points. */
  failure?: string
}

export interface GrowthPoint {
  at: number
  /** Microseconds per message, all connections together. */
  time: Spread
  /** Against the same work at the same moment with next to nothing open. */
  ratio: Ratio
  /** Microseconds of the gateway's processor time per message, and against next to nothing open. */
  cpu: Spread
  cpuRatio: Ratio
  /** The ratio of times for amqplib: what of the growth is the broker's own. */
  amqplib?: Ratio
}

export interface FailedResult {
  kind: 'failed'
  name: string
  reason: string
}

export type Result = ContestResult | FiguresResult | GrowthResult | FailedResult

/** Whether an aim is met: its goal, the least, or neither; undefined where the rounds disagree. */
export function met({ ratio, aim }: Comparison): 'goal' | 'least' | 'missed' | undefined {
  if (!aim || !ratio.agree) return undefined
  const reached = (mark: number) => (aim.of === 'rate' ? ratio.median >= mark : ratio.median <= mark)
  return reached(aim.goal) ? 'goal' : reached(aim.least) ? 'least' : 'missed'
}
