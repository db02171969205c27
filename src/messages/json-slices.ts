// The positions of values in a JSON text, so that a payload can be cut out byte for byte, with numbers of any size.

export interface Slice {
  start: number
  end: number
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** The members of the object that begins at `at`, in valid JSON. If a name stands twice, the last one counts. */
export function objectMembers(text: string, at = 0): Map<string, Slice> {
  const members = new Map<string, Slice>()
  let cursor = skipSpace(text, skipSpace(text, at) + 1)
  while (text[cursor] !== '}') {
    const nameEnd = skipValue(text, cursor)
    const name = JSON.parse(text.slice(cursor, nameEnd)) as string
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1)
    const end = skipValue(text, start)
    members.set(name, { start, end })
    cursor = afterComma(text, end)
  }
  return members
}

/** The items of the array that begins at `at`, in valid JSON. */
export function arrayItems(text: string, at = 0): Slice[] {
  const items: Slice[] = []
  let cursor = skipSpace(text, skipSpace(text, at) + 1)
  while (text[cursor] !== ']') {
    const end = skipValue(text, cursor)
    items.push({ start: cursor, end })
    cursor = afterComma(text, end)
  }
  return items
}

function afterComma(text: string, at: number): number {
  const cursor = skipSpace(text, at)
  return text[cursor] === ',' ? skipSpace(text, cursor + 1) : cursor
}

function skipSpace(text: string, at: number): number {
  let cursor = at
  while (text.charCodeAt(cursor) <= 0x20) cursor++
  return cursor
}

function skipString(text: string, at: number): number {
  let cursor = at + 1
  for (;;) {
    const code = text.charCodeAt(cursor++)
    if (code === QUOTE) return cursor
    if (code === BACKSLASH) cursor++
  }
}

/** The end of the value that begins at `at`. */
function skipValue(text: string, at: number): number {
  const first = text[at]
  if (first === '"') return skipString(text, at)
  if (first !== '{' && first !== '[') {
    let cursor = at
    while (cursor < text.length && !',]} \n\r\t'.includes(text[cursor]!)) cursor++
    return cursor
  }
  let depth = 0
  let cursor = at
  for (;;) {
    switch (text[cursor]) {
      case '"':
        cursor = skipString(text, cursor)
        continue
      case '{':
      case '[':
        depth++
        break
      case '}':
      case ']':
        if (--depth === 0) return cursor + 1
    }
    cursor++
  }
}
