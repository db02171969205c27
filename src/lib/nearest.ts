// The name that somebody probably meant.

/** Short names: of up to five letters only the same one counts, of up to eight one that is one letter off. */
const SHORT = 5
const LONG = 8

/** Without case and separators: `autoDelete` and `auto-delete` mean `auto_delete`. */
const bare = (name: string): string => name.replace(/[-_.\s]/g, '').toLowerCase()

/** The most likely of the known names: the same one, or one that is one or two letters off. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (known.includes(name)) return name
  const near = known
    .map((one) => ({ one, letters: distance(one, name) }))
    .filter(({ one, letters }) => one.length > SHORT && letters <= (one.length > LONG ? 2 : 1))
  return near.sort((a, b) => a.letters - b.letters)[0]?.one
}

/** The name that a client meant: the nearest one, or the same one with other separators or in another case. */
export const meant = (name: string, known: readonly string[]): string | undefined =>
  known.find((one) => bare(one) === bare(name)) ?? nearest(name, known)

/** Levenshtein distance of two short names; 3 if their lengths differ by more than 2. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
