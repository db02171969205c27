// The load: a fixed number of connections, each with one operation in progress at a time (a closed loop).

/** One run of one candidate. */
export interface LoadResult {
  messages: number
  /** From the start of the first operation to the end of the last. */
  seconds: number
  /** Milliseconds of each operation. Empty if messages arrive without a request each. */
  latencies: number[]
}

/**
 * Repeats an operation on every connection until the time is over, and resolves when the last operation has ended.
 * @param operation resolves with the number of messages that it moved; 0 ends the loop of its connection, as the work is done
 * @throws the error of the first operation that fails: a benchmark with errors in it measures nothing
 */
export async function runLoad(
  connections: number,
  seconds: number,
  operation: (connection: number) => Promise<number>,
): Promise<LoadResult> {
  const latencies: number[] = []
  const start = performance.now()
  const end = start + seconds * 1000
  let messages = 0
  let last = start
  const loop = async (connection: number): Promise<void> => {
    for (;;) {
      const begin = performance.now()
      if (begin >= end) return
      const moved = await operation(connection)
      if (moved === 0) return
      last = performance.now()
      messages += moved
      latencies.push(last - begin)
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, connection) => loop(connection)))
  return { messages, seconds: (last - start) / 1000, latencies }
}

/**
 * A JSON document that looks like a task of a work queue.
 * @param bytes its exact size
 * @throws RangeError if `bytes` is less than its fixed members need
 */
export function jsonDocument(bytes: number): string {
  const start = '{"order":4711,"customer":"Ada Lovelace","items":[{"sku":"A-1","quantity":2}],"note":"'
  const words = 'twelve boxes to the back door, please ring "twice" '.replaceAll('"', "'")
  const rest = bytes - start.length - 2
  if (rest < 0) throw new RangeError(`a document has at least ${start.length + 2} bytes`)
  return `${start}${words.repeat(Math.ceil(rest / words.length)).slice(0, rest)}"}`
}

/** How often a text occurs in a response. Counts messages without the cost of a JSON parser, as the load shares the processor. */
export function countOccurrences(body: Buffer, text: string): number {
  let count = 0
  for (let at = body.indexOf(text); at !== -1; at = body.indexOf(text, at + text.length)) count++
  return count
}
