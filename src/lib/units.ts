// Durations and sizes as people write them, shared by the configuration and the API.

const DURATION_FORMAT = /^(\d{1,12})(?:\.(\d{1,6}))?(ms|s|m|h|d)?$/
const MILLISECONDS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** `500ms`, `30s`, `5m`, `1h`, `2d`, or a bare number of seconds, in milliseconds; undefined for any other text. */
export function parseDuration(text: string): number | undefined {
  const match = DURATION_FORMAT.exec(text)
  if (!match) return undefined
  const unit = (match[3] ?? 's') as keyof typeof MILLISECONDS
  return Math.round(Number(`${match[1]}.${match[2] ?? 0}`) * MILLISECONDS[unit])
}

const SIZE_FORMAT = /^(\d{1,12})\s*(B|KiB|MiB|GiB)?$/
const BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

/** `512KiB`, `16MiB` or a bare number of bytes; undefined where it is neither. */
export function parseSize(text: string): number | undefined {
  const match = SIZE_FORMAT.exec(text)
  return match ? Number(match[1]) * BYTES[(match[2] ?? 'B') as keyof typeof BYTES] : undefined
}

/** Milliseconds as the API writes them: `25m`, `1500ms`. */
export function formatDuration(milliseconds: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    if (milliseconds >= MILLISECONDS[unit] && milliseconds % MILLISECONDS[unit] === 0)
      return `${milliseconds / MILLISECONDS[unit]}${unit}`
  }
  return `${milliseconds}ms`
}
