// A comparison: several candidates do the same work in rounds, each round in another order, so that a disturbance of the
// machine affects all of them alike.

import { setTimeout as sleep } from 'node:timers/promises'
import { type Bench, OTHER_BUILD } from './bench.js'
import type { LoadResult } from './load.js'
import type { Aim, CandidateRatio, CandidateResult, ComparisonResult, Result } from './result.js'
import { quantile, ratio, shuffled, spread } from './statistics.js'
import { memory, processorTime, type Server } from './targets/server.js'

/** One entry of the benchmark. */
export interface Case {
  name: string
  /** Whether it is part of a quick run. */
  quick: boolean
  /** Set if it is too slow for a run that does not name it with --only. */
  onRequest?: true
  run: (bench: Bench) => Promise<Result>
}

/** One way to do the work of a comparison, such as through this gateway or with amqplib. */
export interface Candidate {
  name: string
  /** The processes whose processor time and memory count as the candidate's. Empty if it runs in the process of the load. */
  servers: Server[]
  /** Runs before each run, untimed, with the largest number of messages that the run may need. */
  prepare: (messages: number) => Promise<void>
  run: (seconds: number) => Promise<LoadResult>
  close: () => Promise<void>
}

export interface ComparisonOptions {
  name: string
  quick?: boolean
  note?: string
  /** Opens the candidates. The first is compared with each of the others. */
  candidates: (bench: Bench) => Promise<Candidate[]>
  aims?: Aim[]
}

/** Before every run: the broker's remaining work for the previous candidate should not count against the next. */
const PAUSE_MS = 100
/** Enough for V8 to compile the code under test. */
const WARM_UP_SECONDS = 1
const WARM_UP_MESSAGES = 3000
const MAX_MESSAGES = 60_000

/** A case that runs a comparison. */
export function comparison(options: ComparisonOptions): Case {
  return { name: options.name, quick: options.quick ?? false, run: (bench) => runComparison(bench, options) }
}

/**
 * Opens the candidates, runs each of them in all rounds after a round to warm up, and closes them.
 * @throws Error if a candidate fails or moves no message
 */
export async function runComparison(
  bench: Bench,
  { name, note, candidates: open, aims = [] }: ComparisonOptions,
): Promise<ComparisonResult> {
  const candidates = await open(bench)
  try {
    const rounds = await runRounds(bench, candidates)
    const results = candidates.map((candidate) => summarize(candidate.name, rounds.get(candidate)!))
    const ratios = ratiosToFirst(results, aims)
    return { kind: 'comparison', name, ...(note !== undefined && { note }), candidates: results, ratios }
  } finally {
    for (const candidate of candidates) await candidate.close()
  }
}

/** One run of one candidate, in the units of CandidateResult. */
interface Sample {
  rate: number
  p50: number | undefined
  p99: number | undefined
  cpu: number | undefined
  brokerCpu: number | undefined
  memory: number | undefined
}

async function runRounds(bench: Bench, candidates: Candidate[]): Promise<Map<Candidate, Sample[]>> {
  const { rounds, seconds } = bench.options
  const samples = new Map<Candidate, Sample[]>(candidates.map((candidate) => [candidate, []]))
  const rates = new Map<Candidate, number>()
  for (let round = 0; round <= rounds; round++) {
    for (const candidate of shuffled(candidates)) {
      bench.progress.detail(round === 0 ? `warming up: ${candidate.name}` : `round ${round} of ${rounds}: ${candidate.name}`)
      // 1.5 times the need at its best rate so far. A run that empties its queue is valid, only shorter.
      const messages = Math.ceil(Math.min(MAX_MESSAGES, Math.max(WARM_UP_MESSAGES, (rates.get(candidate) ?? 0) * seconds * 1.5)))
      await candidate.prepare(messages)
      await sleep(PAUSE_MS)
      const sample = await runOnce(bench, candidate, round === 0 ? Math.max(seconds, WARM_UP_SECONDS) : seconds)
      rates.set(candidate, Math.max(rates.get(candidate) ?? 0, sample.rate))
      if (round > 0) samples.get(candidate)!.push(sample)
    }
  }
  return samples
}

async function runOnce({ broker }: Bench, candidate: Candidate, seconds: number): Promise<Sample> {
  const pids = candidate.servers.map(({ pid }) => pid)
  const brokerPids = broker.pid === undefined ? [] : [broker.pid]
  const before = { own: processorTime(pids), broker: processorTime(brokerPids) }
  const run = await candidate.run(seconds)
  if (run.messages === 0) throw new Error(`${candidate.name} moved no message`)
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

function summarize(name: string, samples: Sample[]): CandidateResult {
  const result: CandidateResult = { name, rate: spread(samples.map(({ rate }) => rate)) }
  for (const key of ['p50', 'p99', 'cpu', 'brokerCpu', 'memory'] as const) {
    const values = samples.map((sample) => sample[key]).filter((value) => value !== undefined)
    if (values.length > 0) result[key] = spread(values)
  }
  return result
}

/**
 * The ratios of the first candidate to each of the others: of the rates, of the p99s if an aim names them, and of the processor
 * times if the two are builds of the same program, as these vary least on a machine that others use too.
 */
export function ratiosToFirst([first, ...others]: CandidateResult[], aims: Aim[]): CandidateRatio[] {
  const ratios: CandidateRatio[] = []
  for (const other of others) {
    for (const metric of ['rate', 'p99', 'cpu'] as const) {
      const aim = aims.find((one) => one.against === other.name && one.metric === metric)
      if ((metric === 'p99' && !aim) || (metric === 'cpu' && other.name !== OTHER_BUILD)) continue
      const [ours, theirs] = [first![metric], other[metric]]
      if (!ours || !theirs) continue
      ratios.push({ against: other.name, metric, ratio: ratio(ours.values, theirs.values), ...(aim && { aim }) })
    }
  }
  return ratios
}
