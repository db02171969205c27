// Redriving, as a client does it.

import assert from 'node:assert/strict'
import { eventually } from './eventually.js'
import { freshName, type Gateway } from './gateway.js'

export interface Task {
  id: string
  state: string
  moved: number
  matched: number
  skipped: number
  failed: number
  total: number
  last_error?: string
  instance?: string
}
export interface Received {
  payload: string
  routing_key: string
  exchange: string
  deaths?: { queue: string; reason: string }[]
  properties: { message_id: string; headers?: Record<string, unknown>; [name: string]: unknown }
  lease: { id: string }
}
type Client = Pick<Gateway, 'get' | 'post' | 'put' | 'delete'>

/** Publishes texts, many at once. */
export async function publishAll(gateway: Client, queue: string, texts: string[], headers?: Record<string, unknown>) {
  for (let from = 0; from < texts.length; from += 1000) {
    const messages = texts.slice(from, from + 1000).map((payload) => ({ payload, ...(headers && { properties: { headers } }) }))
    const { body } = await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    assert.equal(body.failed, 0, JSON.stringify(body).slice(0, 500))
  }
}

/** A queue and its `.dead` one. */
export async function pair(gateway: Client, type = 'classic'): Promise<{ queue: string; dead: string }> {
  const queue = freshName('queue')
  await gateway.put(`/queues/${queue}`).send({ type, dead_letter: true }).expect(201)
  return { queue, dead: `${queue}.dead` }
}

/** Publishes texts to the queue and rejects them all. */
export async function kill(gateway: Client, { queue, dead }: { queue: string; dead: string }, texts: string[], headers = {}) {
  const before = await count(gateway, dead)
  await publishAll(gateway, queue, texts, headers)
  for (let left = texts.length; left > 0; ) {
    const { messages } = (await gateway.get(`/queues/${queue}/messages?max=1000&wait=5s`).expect(200)).body
    const nack = messages.map(({ lease }: Received) => ({ id: lease.id, requeue: false }))
    await gateway.post('/leases/settle').send({ nack }).expect(200)
    left -= messages.length
  }
  await eventually(async () => assert.equal(await count(gateway, dead), before + texts.length))
}

export const count = async (gateway: Client, queue: string): Promise<number> =>
  (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

/** Begins a redrive. */
export async function begin(gateway: Client, queue: string, body: object = {}): Promise<Task> {
  const response = await gateway.post(`/queues/${queue}/redrive`).send(body).expect(202)
  assert.equal(response.headers['location'], `/redrives/${response.body.id}`)
  return response.body
}

/** The redrive once it runs no more. */
export const ended = (gateway: Client, id: string, timeout = 30_000): Promise<Task> =>
  eventually(async () => {
    const { body } = await gateway.get(`/redrives/${id}`).expect(200)
    assert.notEqual(body.state, 'running', JSON.stringify(body))
    return body
  }, timeout)

export const redriven = async (gateway: Client, queue: string, body: object = {}): Promise<Task> =>
  ended(gateway, (await begin(gateway, queue, body)).id)

/** Takes everything out of a queue. */
export async function takeAll(gateway: Client, queue: string, expected: number): Promise<Received[]> {
  const all: Received[] = []
  await eventually(async () => {
    const { messages } = (await gateway.get(`/queues/${queue}/messages?max=1000&ack=auto&wait=1s`).expect(200)).body
    all.push(...messages)
    assert.ok(all.length >= expected, `${all.length} of ${expected} in ${queue}`)
  })
  return all
}
export const texts = (messages: Received[]): string[] => messages.map(({ payload }) => payload)
export const numbers = (n: number): string[] => Array.from({ length: n }, (_, index) => `${index}`)
