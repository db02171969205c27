// Publishing NDJSON: lines are read, published and confirmed as they come, and results are written in order as soon as they are
// known, at the pace of the slowest of client, gateway and broker.

import { isUtf8 } from 'node:buffer'
import type { IncomingMessage as HttpRequest } from 'node:http'
import type { Writable } from 'node:stream'
import type { Config } from '../config/index.js'
import { readBatchMessage } from '../messages/batch-message.js'
import { lines } from '../messages/lines.js'
import { Problem } from '../problems.js'
import type { Batch, BatchResult } from './batch.js'

/** The most published messages whose results are not written yet: enough to keep RabbitMQ busy. */
const MAX_UNWRITTEN_RESULTS = 1000
/** Results that a client may leave unread while it uploads. */
export const RESULT_BUFFER_BYTES = 16 * 1024 * 1024

/**
 * Publishes every line of the request, and writes a result line for each and a last line with the totals. If the client goes
 * away, nothing more is published, and the caller has to destroy `out`.
 */
export async function publishLines(batch: Batch, request: HttpRequest, out: Writable, config: Config): Promise<void> {
  const totals = { published: 0, failed: 0 }
  let index = 0
  let last = Promise.resolve()
  const window: Promise<void>[] = []

  const writeAfter = async (before: Promise<void>, result: Promise<BatchResult>) => {
    await before
    const known = await result
    totals[known.status === 'confirmed' ? 'published' : 'failed']++
    if (!out.write(`${JSON.stringify(known)}\n`)) await drained(out)
  }

  try {
    // base64 takes a third more, and the rest of the JSON needs some room.
    for await (const line of lines(request, Math.ceil((config.MAX_MESSAGE_SIZE * 4) / 3) + 128 * 1024)) {
      if (!batch.wanted) return
      if (line && isBlank(line)) continue
      const { result } = await batch.publish(index++, () => readLine(batch, line))
      last = writeAfter(last, result)
      window.push(last)
      if (window.length >= MAX_UNWRITTEN_RESULTS) await window.shift()
    }
    await last
    out.end(`${JSON.stringify(totals)}\n`)
  } finally {
    batch.end()
  }
}

/** Resolves when there is room for more, or the client is gone. */
async function drained(out: Writable): Promise<void> {
  if (out.destroyed) return
  await new Promise<void>((resolve) => {
    const done = () => {
      out.off('drain', done).off('close', done)
      resolve()
    }
    out.on('drain', done).on('close', done)
  })
}

const isBlank = (line: Buffer): boolean => line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)

function readLine(batch: Batch, line: Buffer | undefined) {
  if (!line) throw new Problem('message_too_large', 'The line is longer than a message can be.')
  const text = decodeLine(line).trim() // a byte order mark too
  try {
    JSON.parse(text)
  } catch (error) {
    throw invalidLine(`is not JSON: ${(error as Error).message.slice(0, 120)}${lineEndsHint(text)}`)
  }
  return readBatchMessage(text, 0, batch.target)
}

/** `curl -d @file` takes all line ends out of the file. */
const lineEndsHint = (text: string): string =>
  /[}\]]\s*[{[]/.test(text) ? '. If it has several messages, their line ends are missing: curl keeps them with --data-binary' : ''

function decodeLine(line: Buffer): string {
  if (!isUtf8(line)) throw invalidLine('is not UTF-8')
  return line.toString('utf8')
}

function invalidLine(detail: string): Problem {
  return new Problem('invalid_message', `The line ${detail}`, { errors: [{ pointer: '', detail }] })
}
