// Publishing NDJSON: lines are read, published and confirmed as they come, results written back in order, all at the pace
// of the slowest of client, gateway and broker.

import { once } from 'node:events'
import type { IncomingMessage as HttpRequest } from 'node:http'
import type { Writable } from 'node:stream'
import type { Batch, BatchResult } from './batch.js'
import type { Config } from './config.js'
import { readEntry } from './messages/entry.js'
import { lines } from './messages/lines.js'
import { Problem } from './problems.js'

/** Messages read and not confirmed: enough to keep the broker busy. */
const WINDOW = 1000
/** Results that a client which first sends everything leaves unread. */
export const RESULT_BUFFER = 16 * 1024 * 1024

/**
 * Publishes every line of the request until it ends, and writes a result line each and the totals.
 * A client that goes away ends it: what was published by then stays, and no more is.
 */
export async function publishLines(batch: Batch, request: HttpRequest, out: Writable, config: Config): Promise<void> {
  const results: Promise<BatchResult>[] = []
  const totals = { published: 0, failed: 0 }
  let index = 0

  const writeFirst = async () => {
    const result = await results.shift()!
    totals[result.status === 'confirmed' ? 'published' : 'failed']++
    if (!out.write(`${JSON.stringify(result)}\n`) && !out.destroyed) await Promise.race([once(out, 'drain'), once(out, 'close')])
  }

  // base64 takes a third more, and there is some JSON around.
  for await (const line of lines(request, Math.ceil((config.MAX_MESSAGE_SIZE * 4) / 3) + 128 * 1024)) {
    if (out.destroyed) return
    if (line && line.length < 64 && line.toString('latin1').trim() === '') continue
    await batch.room(line?.length ?? 0)
    results.push(batch.publish(index++, () => readLine(batch, line)))
    while (results.length >= WINDOW) await writeFirst()
  }
  while (results.length > 0) await writeFirst()
  out.end(`${JSON.stringify(totals)}\n`)
}

function readLine(batch: Batch, line: Buffer | undefined) {
  if (!line) throw new Problem('message_too_large', 'The line is longer than a message can be.')
  const text = line.toString('utf8').trim()
  try {
    JSON.parse(text)
  } catch (error) {
    const detail = `is not JSON: ${(error as Error).message.slice(0, 120)}`
    throw new Problem('invalid_message', `The line ${detail}`, { errors: [{ pointer: '', detail }] })
  }
  return readEntry(text, 0, batch.target)
}
