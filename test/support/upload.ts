// An NDJSON upload in progress: tests write its lines and read the results as they arrive. The results are checked against the
// OpenAPI document.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { after } from 'node:test'
import { checkSchema } from './contract.js'
import { eventually } from './eventually.js'

/** A line of the response. */
export interface Result {
  index: number
  id?: string
  status: string
  message_id?: string
  problem?: { code: string; errors?: { pointer: string }[] }
}

export interface Upload {
  outgoing: ClientRequest
  /** Resolves when the headers of the response arrive. */
  answered: Promise<IncomingMessage>
  /** The results so far. */
  results: () => Result[]
  /** Resolves with the results once there are `count`. @param timeout in milliseconds */
  until: (count: number, timeout?: number) => Promise<Result[]>
  /** Resolves with the response once it is complete. Fails if it was cut off. */
  whole: () => Promise<{ status: number; results: Result[]; totals: { published: number; failed: number } }>
}

/** Opens an upload to a URL that ends in /messages/batch. It is aborted after the test if it still runs. */
export function openUpload(url: string): Upload {
  const outgoing = request(url, { method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, agent: false })
  after(() => outgoing.destroy())
  outgoing.on('error', () => undefined)
  let text = ''
  let ended: Promise<unknown> | undefined
  const answered = once(outgoing, 'response').then(([response]: IncomingMessage[]) => {
    response!.setEncoding('utf8')
    response!.on('data', (chunk) => {
      text += chunk
    })
    response!.on('error', () => undefined)
    ended = once(response!, 'close')
    return response!
  })
  answered.catch(() => undefined)
  outgoing.flushHeaders()
  const lines = () => text.split('\n').slice(0, -1)
  const results = () => lines().map((line) => JSON.parse(line) as Result)
  return {
    outgoing,
    answered,
    results,
    until: (count, timeout) =>
      eventually(() => {
        assert.ok(lines().length >= count, `${lines().length} of ${count} results`)
        return results()
      }, timeout),
    whole: async () => {
      const response = await answered
      await ended
      assert.ok(response.complete, 'the response was cut off')
      assert.equal(response.headers['content-type'], 'application/x-ndjson; charset=utf-8')
      assert.ok(text.endsWith('\n'))
      const all = results()
      const totals = all.pop() as unknown as { published: number; failed: number }
      for (const result of all.slice(0, 100)) assert.deepEqual(checkSchema('BatchResult', result), [], JSON.stringify(result))
      assert.deepEqual(Object.keys(totals), ['published', 'failed'])
      return { status: response.statusCode!, results: all, totals }
    },
  }
}
