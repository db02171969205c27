// The load: so many connections, each with one operation under way at any time (a closed loop).

/** What one run of one contender did. */
export interface Run {
  messages: number
  /** From the first operation's start to the last one's end. */
  seconds: number
  /** Milliseconds, an operation each; empty where messages come without being asked for one by one. */
  latencies: number[]
}

/**
 * Repeats an operation on every connection until the time is over.
 * @param operation resolves with how many messages it moved; 0 ends its connection's loop: there is nothing left to do
 * @throws what an operation throws: a benchmark with errors in it measures nothing
 */
export async function drive(
  connections: number,
  seconds: number,
  operation: (connection: number) => Promise<number>,
): Promise<Run> {
  const latencies: number[] = []
  const start = performance.now()
  const end = start + seconds * 1000
  let messages = 0
  let last = start
  const loop = async (connection: number): Promise<void> => {
    for (;;) {
      const begun = performance.now()
      if (begun >= end) return
      const moved = await operation(connection)
      if (moved === 0) return
      last = performance.now()
      messages += moved
      latencies.push(last - begun)
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, connection) => loop(connection)))
  return { messages, seconds: (last - start) / 1000, latencies }
}

/** A JSON document of exactly that many bytes, as tasks in a work queue look like. */
export function document(bytes: number): string {
  const start = '{"order":4711,"customer":"Ada Lovelace","items":[{"sku":"A-1","quantity":2}],"note":"'
  const words = 'twelve boxes to the back door, please ring "twice" '.replaceAll('"', "'")
  const rest = bytes - start.length - 2
  if (rest < 0) throw new RangeError(`a document has at least ${start.length + 2} bytes`)
  return `${start}${words.repeat(Math.ceil(rest / words.length)).slice(0, rest)}"}`
}

/** How often a text occurs in an answer: messages are counted without paying for a parser on the machine's few cores. */
export function occurrences(body: Buffer, text: string): number {
  let count = 0
  for (let at = body.indexOf(text); at !== -1; at = body.indexOf(text, at + text.length)) count++
  return count
}
