// What a handful of noisy rounds can say, and when they can't say it.

/** One quantity over all rounds. */
export interface Spread {
  median: number
  min: number
  max: number
  /** A value a round, in their order. */
  values: number[]
}

/** How two contenders stand to each other, round by round. */
export interface Ratio extends Spread {
  /** False where the rounds disagree too much, or are too few, for the median to mean anything. */
  agree: boolean
}

/** So wide may the interval be in which the true median probably lies, relative to the median seen. */
const MAX_DISAGREEMENT = 0.4
/** How probably it has to lie there; three or four rounds can't say it so well, and then all of them have to lie there. */
const CONFIDENCE = 0.85
const MIN_ROUNDS = 3

/**
 * The value below which that share of the values lies, between two of them by linear interpolation.
 * @param sorted ascending, at least one
 * @param share 0 to 1
 */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) throw new RangeError('there are no values')
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)]!
  const above = sorted[Math.ceil(at)]!
  return below + (above - below) * (at - Math.floor(at))
}

/** @throws RangeError where there are no values */
export function spread(values: readonly number[]): Spread {
  const sorted = Float64Array.from(values).sort()
  return { median: quantile(sorted, 0.5), min: sorted[0]!, max: sorted.at(-1)!, values: [...values] }
}

/**
 * Ours divided by theirs, each round for itself: what slows the whole machine down for a while slows both.
 * @throws RangeError where they are not of the same rounds
 */
export function ratio(ours: readonly number[], theirs: readonly number[]): Ratio {
  if (ours.length !== theirs.length) throw new RangeError('the two were not measured in the same rounds')
  const values = ours.map((value, round) => value / theirs[round]!)
  return { ...spread(values), agree: agree(values) }
}

/** Whether the rounds say well enough where the median is: more rounds make up for a restless machine. */
export function agree(values: readonly number[]): boolean {
  if (values.length < MIN_ROUNDS || values.some((value) => !Number.isFinite(value))) return false
  const [low, high] = medianInterval(values)
  return high - low <= MAX_DISAGREEMENT * Math.abs(spread(values).median)
}

/**
 * Where the median of all possible rounds lies, judged by these: between two of them that have as many below as above. Each
 * round falls on either side of it like a coin, so that the binomial distribution tells how probably (the sign test).
 */
export function medianInterval(values: readonly number[]): [low: number, high: number] {
  const sorted = Float64Array.from(values).sort()
  const { length } = sorted
  let cut = 0
  let ways = 1 // to have exactly `cut` rounds on one side
  let outside = 2 * 0.5 ** length
  for (;;) {
    ways = (ways * (length - cut)) / (cut + 1)
    outside += 2 * ways * 0.5 ** length
    if (1 - outside < CONFIDENCE) return [sorted[cut]!, sorted[length - 1 - cut]!]
    cut++
  }
}

/** The same values in an order of chance (Fisher and Yates). */
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
