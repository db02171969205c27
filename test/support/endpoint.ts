// An endpoint that subscriptions deliver to: a real HTTP server that remembers what came, and answers as it is told.

import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import { eventually } from './eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from './gateway.js'
import { freshVhost } from './vhost.js'

export interface Got {
  path: string
  headers: IncomingHttpHeaders
  body: Buffer
  /** performance.now() when it had come in full. */
  at: number
}

/** A status, with its headers, or a function that sees to the response itself. */
type Reply = number | { status: number; headers?: Record<string, string>; body?: string } | Handler
type Handler = (response: ServerResponse, got: Got) => void

export interface Receiver {
  url: string
  got: Got[]
  /** How many requests wait for their answer, and the most that ever did. */
  open: number
  mostOpen: number
  /** What it answers from now on. */
  reply: Reply
  /** Resolves with everything once so many have come. */
  many: (count: number, timeout?: number) => Promise<Got[]>
  bodies: () => string[]
  close: () => Promise<void>
  /** Listens on the port that it had. */
  listen: () => Promise<void>
}

/** Starts one on a free port of loopback; it is closed after the tests. */
export async function startReceiver(reply: Reply = 204): Promise<Receiver> {
  let port = 0
  const server = createServer((request, response) => {
    receiver.open++
    receiver.mostOpen = Math.max(receiver.mostOpen, receiver.open)
    response.once('close', () => receiver.open--)
    const chunks: Buffer[] = []
    request.on('error', () => undefined)
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const got = { path: request.url!, headers: request.headers, body: Buffer.concat(chunks), at: performance.now() }
      receiver.got.push(got)
      const now = receiver.reply
      if (typeof now === 'function') return now(response, got)
      const { status, headers = {}, body } = typeof now === 'number' ? { status: now } : now
      response.writeHead(status, headers).end(body)
    })
  })
  const receiver: Receiver = {
    url: '',
    got: [],
    open: 0,
    mostOpen: 0,
    reply,
    many: (count, timeout) =>
      eventually(() => {
        if (receiver.got.length < count) throw new Error(`${receiver.got.length} of ${count} deliveries`)
        return receiver.got
      }, timeout),
    bodies: () => receiver.got.map(({ body }) => body.toString()),
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
    listen: async () => {
      await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
      port = (server.address() as AddressInfo).port
      receiver.url = `http://127.0.0.1:${port}/hook`
    },
  }
  await receiver.listen()
  after(receiver.close)
  return receiver
}

/** Gateways that may deliver to loopback, in a vhost of their own: every instance that shares one delivers. */
export async function startPushing(count = 1, env: Record<string, string> = {}): Promise<Gateway[]> {
  const vhost = await freshVhost('push')
  const gateways: Gateway[] = []
  for (let n = 0; n < count; n++)
    gateways.push(await startGateway({ PUSH_ALLOWED_NETWORKS: '127.0.0.0/8', ...vhost.env, ...env }))
  gateways.at(-1)!.cleanups.push(vhost.delete)
  return gateways
}

/** Defines a subscription, deleted when the gateway is closed. @returns what was answered */
export async function subscribe(gateway: Gateway, name: string, definition: object): Promise<Record<string, unknown>> {
  const { body } = await gateway.put(`/subscriptions/${name}`).send(definition).expect(201)
  gateway.cleanups.unshift(async () => gateway.delete(`/subscriptions/${name}`))
  return body
}

/** Every attempt a moment after the last. */
export const QUICK = { initial: '100ms', factor: 1, jitter: 0 }

/** A queue with a subscription to an endpoint of its own. */
export async function subscribed(gateway: Gateway, definition: object = {}, declaration: object = { type: 'quorum' }) {
  const receiver = await startReceiver()
  const queue = await freshQueue(gateway, declaration)
  const name = freshName('subscription')
  const answer = await subscribe(gateway, name, { queue, url: receiver.url, retry: { backoff: QUICK }, ...definition })
  const status = async (at = gateway) => (await at.get(`/subscriptions/${name}`).expect(200)).body
  return { receiver, queue, name, status, secret: answer['secret'] as string }
}

/** Resolves when nothing is left in a queue, neither ready nor under a lease. */
export const isEmpty = (gateway: Gateway, queue: string): Promise<void> =>
  eventually(async () => {
    const { body } = await gateway.get(`/queues/${queue}/messages?ack=requeue`).expect(200)
    const count = await waiting(gateway, queue)
    if (count + body.messages.length > 0) throw new Error(`${count} messages are in ${queue}`)
  })

export const publish = async (
  gateway: Gateway,
  queue: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<string> => (await gateway.post(`/queues/${queue}/messages`).set(headers).send(body).expect(201)).body.message_id

/** How many messages wait in a queue. */
export const waiting = async (gateway: Gateway, queue: string): Promise<number> =>
  (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count
