// A client of `GET …/stream`, as events or as lines, that can stop reading and close its connection.

import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { after } from 'node:test'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { eventually } from './eventually.js'

export interface StreamMessage {
  payload: unknown
  redelivered: boolean
  delivery_count?: number
  properties: { message_id: string; headers?: Record<string, unknown> }
  lease?: { id: string; expires_at: string }
}

export interface Reader {
  response: IncomingMessage
  /** Everything received so far, unparsed. */
  text: () => string
  /** The complete server-sent events so far; none for a stream of lines. */
  events: () => EventSourceMessage[]
  /** The messages so far, of either format. */
  messages: () => StreamMessage[]
  /** Resolves with all messages once at least `count` have been received. */
  until: (count: number) => Promise<StreamMessage[]>
  /** Resolves when the connection has ended, from either side. */
  ended: Promise<void>
  /** Closes the connection. */
  leave: () => void
}

/** Opens a stream and resolves when its response begins, whatever its status. The connection is closed after the tests. */
export async function openStream(url: string, headers: Record<string, string> = {}): Promise<Reader> {
  const outgoing = request(url, { headers, agent: false })
  outgoing.on('error', () => undefined)
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  const lines = (response.headers['content-type'] ?? '').includes('ndjson')
  const received: EventSourceMessage[] = []
  const parser = createParser({ onEvent: (event) => received.push(event) })
  let text = ''
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    text += chunk
    if (!lines) parser.feed(chunk)
  })
  response.on('error', () => undefined)
  const ended = new Promise<void>((resolve) => response.once('close', resolve))
  const leave = () => outgoing.destroy()
  after(leave)

  const messages = (): StreamMessage[] =>
    lines
      ? text
          .split('\n')
          .slice(0, -1)
          .filter((line) => line.includes('"payload"'))
          .map((line) => JSON.parse(line))
      : received.filter(({ event }) => event === 'message').map(({ data }) => JSON.parse(data))
  const until = (count: number) =>
    eventually(() => {
      const all = messages()
      if (all.length < count) throw new Error(`${all.length} of ${count} messages: ${text.slice(-300)}`)
      return all
    })
  return { response, text: () => text, events: () => [...received], messages, until, ended, leave }
}
