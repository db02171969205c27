// A reader of `GET …/stream`, as events or as lines, that can stop reading and go away.

import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { after } from 'node:test'
import { eventually } from './eventually.js'

export interface StreamMessage {
  payload: unknown
  redelivered: boolean
  delivery_count?: number
  properties: { message_id: string; headers?: Record<string, unknown> }
  lease?: { id: string; expires_at: string }
}

export interface StreamEvent {
  event: string
  id?: string
  data: string
}

export interface Reader {
  response: IncomingMessage
  /** Everything that came, as it came. */
  text: () => string
  events: () => StreamEvent[]
  /** The messages, of either format. */
  messages: () => StreamMessage[]
  /** Waits until so many messages are there, and returns them. */
  until: (count: number) => Promise<StreamMessage[]>
  /** Resolves when the connection has ended, from either side. */
  ended: Promise<void>
  leave: () => void
}

/** Opens a stream and resolves when its answer has begun; whatever its status. */
export async function openStream(url: string, headers: Record<string, string> = {}): Promise<Reader> {
  const outgoing = request(url, { headers, agent: false })
  outgoing.on('error', () => undefined)
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  const lines = (response.headers['content-type'] ?? '').includes('ndjson')
  let text = ''
  response.setEncoding('utf8')
  response.on('data', (chunk) => {
    text += chunk
  })
  response.on('error', () => undefined)
  const ended = new Promise<void>((resolve) => response.once('close', resolve))
  const leave = () => outgoing.destroy()
  after(leave)

  const events = (): StreamEvent[] =>
    text
      .split('\n\n')
      .slice(0, -1)
      .filter((block) => /^(event|data|id):/m.test(block))
      .map((block) => {
        const fields = Object.fromEntries(block.split('\n').map((line) => [line.split(':', 1)[0]!, line.replace(/^\w*: ?/, '')]))
        return { event: fields['event']!, data: fields['data']!, ...(fields['id'] !== undefined && { id: fields['id'] }) }
      })
  const messages = (): StreamMessage[] =>
    lines
      ? text
          .split('\n')
          .slice(0, -1)
          .filter((line) => line.includes('"payload"'))
          .map((line) => JSON.parse(line))
      : events()
          .filter(({ event }) => event === 'message')
          .map(({ data }) => JSON.parse(data))
  const until = (count: number) =>
    eventually(() => {
      const all = messages()
      if (all.length < count) throw new Error(`${all.length} of ${count} messages: ${text.slice(-300)}`)
      return all
    })
  return { response, text: () => text, events, messages, until, ended, leave }
}
