// A contest: the same work by several contenders, in rounds, each round in another order, so that what disturbs the machine
// disturbs all alike.

import { setTimeout as sleep } from 'node:timers/promises'
import { type Bench, OTHER_BUILD } from './bench.js'
import type { Run } from './load.js'
import type { Aim, Comparison, ContestResult, Measured, Result } from './result.js'
import { quantile, ratio, shuffled, spread } from './statistics.js'
import { memory, processorTime, type Server } from './targets/server.js'

/** One line of the benchmark. */
export interface Case {
  name: string
  /** Whether it takes part in a quick run. */
  quick: boolean
  /** It takes so long that it only runs when --only names it. */
  onRequest?: true
  run: (bench: Bench) => Promise<Result>
}

export interface Contender {
  name: string
  /** Whose processor time and memory are its own; none where it runs in the load's process. */
  servers: Server[]
  /** Before each run, and not timed. Told how many messages the run may need at most. */
  prepare: (messages: number) => Promise<void>
  run: (seconds: number) => Promise<Run>
  close: () => Promise<void>
}

export interface ContestOptions {
  name: string
  quick?: boolean
  note?: string
  /** The first is compared with every other one. */
  contenders: (bench: Bench) => Promise<Contender[]>
  aims?: Aim[]
}

/** Before every run: what the broker still does for the one before should not be counted to the next. */
const PAUSE = 100
/** Enough for V8 to compile what the work needs. */
const WARM_UP_SECONDS = 1
const WARM_UP_MESSAGES = 3000
const MAX_MESSAGES = 60_000

export function contest(options: ContestOptions): Case {
  return { name: options.name, quick: options.quick ?? false, run: (bench) => hold(bench, options) }
}

export async function hold(bench: Bench, { name, note, contenders: open, aims = [] }: ContestOptions): Promise<ContestResult> {
  const contenders = await open(bench)
  try {
    const rounds = await runRounds(bench, contenders)
    const measured = contenders.map((contender) => summary(contender.name, rounds.get(contender)!))
    const comparisons = compare(measured, aims)
    return { kind: 'contest', name, ...(note !== undefined && { note }), contenders: measured, comparisons }
  } finally {
    for (const contender of contenders) await contender.close()
  }
}

/** What one run came to. */
interface Sample {
  rate: number
  p50: number | undefined
  p99: number | undefined
  cpu: number | undefined
  brokerCpu: number | undefined
  memory: number | undefined
}

async function runRounds(bench: Bench, contenders: Contender[]): Promise<Map<Contender, Sample[]>> {
  const { rounds, seconds } = bench.options
  const samples = new Map<Contender, Sample[]>(contenders.map((contender) => [contender, []]))
  const rates = new Map<Contender, number>()
  for (let round = 0; round <= rounds; round++) {
    for (const contender of shuffled(contenders)) {
      bench.progress.detail(round === 0 ? `warming up: ${contender.name}` : `round ${round} of ${rounds}: ${contender.name}`)
      // Half as many again as it will need at its best so far: running dry is allowed, but cuts the run short.
      const messages = Math.ceil(Math.min(MAX_MESSAGES, Math.max(WARM_UP_MESSAGES, (rates.get(contender) ?? 0) * seconds * 1.5)))
      await contender.prepare(messages)
      await sleep(PAUSE)
      const sample = await runOnce(bench, contender, round === 0 ? Math.max(seconds, WARM_UP_SECONDS) : seconds)
      rates.set(contender, Math.max(rates.get(contender) ?? 0, sample.rate))
      if (round > 0) samples.get(contender)!.push(sample)
    }
  }
  return samples
}

async function runOnce({ broker }: Bench, contender: Contender, seconds: number): Promise<Sample> {
  const pids = contender.servers.map(({ pid }) => pid)
  const brokerPids = broker.pid === undefined ? [] : [broker.pid]
  const before = { own: processorTime(pids), broker: processorTime(brokerPids) }
  const run = await contender.run(seconds)
  if (run.messages === 0) throw new Error(`${contender.name} moved no message`)
  const latencies = Float64Array.from(run.latencies).sort()
  return {
    rate: run.messages / run.seconds,
    p50: latencies.length > 0 ? quantile(latencies, 0.5) : undefined,
    p99: latencies.length > 0 ? quantile(latencies, 0.99) : undefined,
    cpu: pids.length > 0 ? (processorTime(pids) - before.own) / run.messages : undefined,
    brokerCpu: brokerPids.length > 0 ? (processorTime(brokerPids) - before.broker) / run.messages : undefined,
    memory: pids.length > 0 ? memory(pids) : undefined,
  }
}

function summary(name: string, samples: Sample[]): Measured {
  const measured: Measured = { name, rate: spread(samples.map(({ rate }) => rate)) }
  for (const key of ['p50', 'p99', 'cpu', 'brokerCpu', 'memory'] as const) {
    const values = samples.map((sample) => sample[key]).filter((value) => value !== undefined)
    if (values.length > 0) measured[key] = spread(values)
  }
  return measured
}

/**
 * The first against every other one by its rate, by its p99 where an aim asks for it, and by its processor time where the two
 * are builds of the same program: that says most on a machine that others use too.
 */
export function compare([first, ...others]: Measured[], aims: Aim[]): Comparison[] {
  const comparisons: Comparison[] = []
  for (const other of others) {
    for (const of of ['rate', 'p99', 'cpu'] as const) {
      const aim = aims.find((one) => one.against === other.name && one.of === of)
      if ((of === 'p99' && !aim) || (of === 'cpu' && other.name !== OTHER_BUILD)) continue
      const [ours, theirs] = [first![of], other[of]]
      if (!ours || !theirs) continue
      comparisons.push({ against: other.name, of, ratio: ratio(ours.values, theirs.values), ...(aim && { aim }) })
    }
  }
  return comparisons
}
