// A stream of bytes as lines of bounded length. A longer line costs no more memory than the bound.

/**
 * Yields the lines of `source`, and undefined for a line that is longer than `maxBytes`. The last line needs no line end. Reads
 * only as fast as the lines are consumed.
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
