// Statistics for a few noisy rounds, including whether they are enough for a result.

/** One quantity over all rounds. */
export interface Spread {
  median: number
  min: number
  max: number
  /** One value per round, in the order of the rounds. */
  values: number[]
}

/** The ratios of two candidates, round by round. */
export interface Ratio extends Spread {
  /** False if the rounds disagree too much, or are too few, for the median to mean anything. */
  agree: boolean
}

/** The maximum width of the confidence interval of the median, relative to the median. */
const MAX_DISAGREEMENT = 0.4
/** The confidence level of that interval. Three or four rounds do not reach it, so the interval then spans all of them. */
const CONFIDENCE = 0.85
const MIN_ROUNDS = 3

/**
 * The quantile of sorted values, by linear interpolation between the two next to it.
 * @param sorted at least one value, in ascending order
 * @param share 0 to 1
 * @throws RangeError if there are no values
 */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) throw new RangeError('there are no values')
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)]!
  const above = sorted[Math.ceil(at)]!
  return below + (above - below) * (at - Math.floor(at))
}

/**
 * The median and the range of the values, which it keeps in their order.
 * @throws RangeError if there are no values
 */
export function spread(values: readonly number[]): Spread {
  const sorted = Float64Array.from(values).sort()
  return { median: quantile(sorted, 0.5), min: sorted[0]!, max: sorted.at(-1)!, values: [...values] }
}

/**
 * Our value divided by theirs, round by round: a disturbance of the machine slows both in the same round.
 * @throws RangeError if the two have different numbers of rounds
 */
export function ratio(ours: readonly number[], theirs: readonly number[]): Ratio {
  if (ours.length !== theirs.length) throw new RangeError('the two candidates were not measured in the same rounds')
  const values = ours.map((value, round) => value / theirs[round]!)
  return { ...spread(values), agree: agree(values) }
}

/** Whether the confidence interval of the median is narrow enough. More rounds make up for a noisy machine. */
export function agree(values: readonly number[]): boolean {
  if (values.length < MIN_ROUNDS || values.some((value) => !Number.isFinite(value))) return false
  const [low, high] = medianInterval(values)
  return high - low <= MAX_DISAGREEMENT * Math.abs(spread(values).median)
}

/**
 * The confidence interval of the median, by the sign test: each round is above or below the true median with probability 1/2,
 * so the binomial distribution gives the probability that the median lies between the nth smallest and the nth largest round.
 */
export function medianInterval(values: readonly number[]): [low: number, high: number] {
  const sorted = Float64Array.from(values).sort()
  const { length } = sorted
  let cut = 0
  let ways = 1 // in which exactly `cut` rounds are on one side
  let outside = 2 * 0.5 ** length
  for (;;) {
    ways = (ways * (length - cut)) / (cut + 1)
    outside += 2 * ways * 0.5 ** length
    if (1 - outside < CONFIDENCE) return [sorted[cut]!, sorted[length - 1 - cut]!]
    cut++
  }
}

/** A copy of the values in random order (Fisher-Yates). */
export function shuffled<T>(values: readonly T[], random: () => number = Math.random): T[] {
  const result = [...values]
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    const value = result[last]!
    result[last] = result[other]!
    result[other] = value
  }
  return result
}
