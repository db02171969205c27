// Redrives through the HTTP API.

import assert from 'node:assert/strict'
import { eventually } from './eventually.js'
import { freshName, type Gateway } from './gateway.js'

/** The representation of a redrive. */
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

/** The representation of a received message. */
export interface Received {
  payload: string
  routing_key: string
  exchange: string
  deaths?: { queue: string; reason: string }[]
  properties: { message_id: string; headers?: Record<string, unknown>; [name: string]: unknown }
  lease: { id: string }
}

type Client = Pick<Gateway, 'get' | 'post' | 'put' | 'delete'>

/** Publishes texts in batches of up to 1000. Fails if one of them is not confirmed. */
export async function publishAll(gateway: Client, queue: string, texts: string[], headers?: Record<string, unknown>) {
  for (let from = 0; from < texts.length; from += 1000) {
    const messages = texts.slice(from, from + 1000).map((payload) => ({ payload, ...(headers && { properties: { headers } }) }))
    const { body } = await gateway.post(`/queues/${queue}/messages/batch`).send({ messages }).expect(200)
    assert.equal(body.failed, 0, JSON.stringify(body).slice(0, 500))
  }
}

/** Declares a queue with a dead-letter queue. @returns the names of both */
export async function pair(gateway: Client, type = 'classic'): Promise<{ queue: string; dead: string }> {
  const queue = freshName('queue')
  await gateway.put(`/queues/${queue}`).send({ type, dead_letter: true }).expect(201)
  return { queue, dead: `${queue}.dead` }
}

/** Publishes texts to the queue, rejects all of them, and resolves when they are in the dead-letter queue. */
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

/** The number of ready messages in a queue. */
export const count = async (gateway: Client, queue: string): Promise<number> =>
  (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count

/** Starts a redrive. @returns its task as in the 202 response */
export async function begin(gateway: Client, queue: string, body: object = {}): Promise<Task> {
  const response = await gateway.post(`/queues/${queue}/redrive`).send(body).expect(202)
  assert.equal(response.headers['location'], `/redrives/${response.body.id}`)
  return response.body
}

/** Resolves with the task of a redrive once it no longer runs. @param timeout in milliseconds */
export const ended = (gateway: Client, id: string, timeout = 30_000): Promise<Task> =>
  eventually(async () => {
    const { body } = await gateway.get(`/redrives/${id}`).expect(200)
    assert.notEqual(body.state, 'running', JSON.stringify(body))
    return body
  }, timeout)

/** Starts a redrive and resolves with its task once it has ended. */
export const redriven = async (gateway: Client, queue: string, body: object = {}): Promise<Task> =>
  ended(gateway, (await begin(gateway, queue, body)).id)

/** Receives messages with ack=auto until there are at least `expected`, and then, for duplicates, until the queue is empty. */
export async function takeAll(gateway: Client, queue: string, expected: number): Promise<Received[]> {
  const all: Received[] = []
  await eventually(async () => {
    const { messages } = (await gateway.get(`/queues/${queue}/messages?max=1000&ack=auto&wait=1s`).expect(200)).body
    all.push(...messages)
    assert.ok(all.length >= expected, `${all.length} of ${expected} in ${queue}`)
    assert.equal(messages.length, 0, `there may be more in ${queue}`)
  })
  return all
}

/** The payloads of messages. */
export const texts = (messages: Received[]): string[] => messages.map(({ payload }) => payload)

/** The texts "0" to `n - 1`. */
export const numbers = (n: number): string[] => Array.from({ length: n }, (_, index) => `${index}`)
