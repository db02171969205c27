// Where delayed messages wait: a queue for each power of two, 100 ms, 200 ms, 400 ms and so on, in which every message stays
// equally long, so that none is stuck behind another. A delay is the sum of some of them, and a message's routing key says of
// which (docs/decisions/0007-delays-as-powers-of-two.md). Nothing but RabbitMQ moves it until it is due.

/** Milliseconds of the lowest level. */
const UNIT_MS = 100
/** Enough for 2^25 - 1 units, 38 days. */
export const LEVELS = 25
/** How many binary digits of a delay count: a message is late by less than 1/128, and passes at most eight queues. */
const SIGNIFICANT_DIGITS = 8

/** Milliseconds. */
export const MIN_DELAY_MS = 100
export const MAX_DELAY_MS = 30 * 86_400_000

/** Messages whose time has come. */
export const DUE_QUEUE = 'gateway.delay.due'
/** Messages whose time has come, and whose target does not exist. */
export const UNDELIVERABLE_QUEUE = 'gateway.delay.undeliverable'

/** The exchange that lets messages into a level, or past it; also the name of the level's queue. */
export const levelName = (level: number): string => `gateway.delay.${UNIT_MS * 2 ** level}ms`

/** Milliseconds that a message stays in a level. */
export const levelTime = (level: number): number => UNIT_MS * 2 ** level

export interface LevelPath {
  /** The highest level. */
  top: number
  /** The routing key to publish with: a word for each possible level from the highest, 1 for those that the message stays in. */
  routingKey: string
}

/** The levels that a message passes. @param delay milliseconds that it waits at least */
export function levelPath(delay: number): LevelPath {
  let units = Math.max(1, Math.ceil(delay / UNIT_MS))
  const dropped = Math.max(0, units.toString(2).length - SIGNIFICANT_DIGITS)
  units = Math.ceil(units / 2 ** dropped) * 2 ** dropped
  const bits = units.toString(2)
  return { top: bits.length - 1, routingKey: [...bits.padStart(LEVELS, '0')].join('.') }
}

/** The bindings of a level's exchange: messages that stay in it, and those that go on. */
export function patternsOf(level: number): { stay: string; pass: string } {
  const before = '*.'.repeat(LEVELS - 1 - level)
  const after = level > 0 ? '.#' : ''
  return { stay: `${before}1${after}`, pass: `${before}0${after}` }
}
