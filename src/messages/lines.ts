// A stream of bytes as lines, each within a bound: a longer one costs no more memory than the bound, and is told apart.

/**
 * Yields the lines of `source`; undefined stands for one that is longer than `maxBytes`. A last line needs no line end.
 * Reads on only as fast as it is asked.
 */
export async function* lines(source: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer | undefined> {
  let parts: Buffer[] = []
  let size = 0
  const take = (): Buffer | undefined => {
    const line = size > maxBytes ? undefined : parts.length === 1 ? parts[0] : Buffer.concat(parts)
    parts = []
    size = 0
    return line
  }
  for await (const chunk of source) {
    let from = 0
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      size += at - from
      if (size <= maxBytes) parts.push(chunk.subarray(from, at))
      from = at + 1
      yield take()
    }
    size += chunk.length - from
    if (size <= maxBytes) parts.push(chunk.subarray(from))
    else parts = []
  }
  if (size > 0) yield take()
}
