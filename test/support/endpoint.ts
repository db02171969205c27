// An endpoint that subscriptions deliver to: an HTTP server that records its requests and sends the configured response.

import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import { eventually } from './eventually.js'
import { freshName, freshQueue, type Gateway, startGateway } from './gateway.js'
import { freshVhost } from './vhost.js'

/** A request of the endpoint. */
export interface Got {
  path: string
  headers: IncomingHttpHeaders
  body: Buffer
  /** performance.now() when it was complete. */
  at: number
}

/** A status, a status with headers and body, or a function that writes the response. */
type Reply = number | { status: number; headers?: Record<string, string>; body?: string } | Handler
type Handler = (response: ServerResponse, got: Got) => void

export interface Receiver {
  url: string
  got: Got[]
  /** The number of requests without a complete response. */
  open: number
  /** The maximum of `open` so far. */
  mostOpen: number
  /** The response to all further requests. */
  reply: Reply
  /** Resolves with all requests once there are `count`. @param timeout in milliseconds */
  many: (count: number, timeout?: number) => Promise<Got[]>
  /** The bodies of all requests as text. */
  bodies: () => string[]
  /** Closes all connections and stops listening. */
  close: () => Promise<void>
  /** Listens again on the same port. */
  listen: () => Promise<void>
}

/** Starts an endpoint on a free port of loopback. It is closed after the tests. */
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

/** Starts gateways that may deliver to loopback, in a new vhost, as every instance of a vhost delivers its subscriptions. */
export async function startPushing(count = 1, env: Record<string, string> = {}): Promise<Gateway[]> {
  const vhost = await freshVhost('push')
  const gateways: Gateway[] = []
  for (let n = 0; n < count; n++)
    gateways.push(await startGateway({ PUSH_ALLOWED_NETWORKS: '127.0.0.0/8', ...vhost.env, ...env }))
  gateways.at(-1)!.cleanups.push(vhost.delete)
  return gateways
}

/** Defines a subscription, which is deleted when the gateway is closed. @returns the body of the response */
export async function subscribe(gateway: Gateway, name: string, definition: object): Promise<Record<string, unknown>> {
  const { body } = await gateway.put(`/subscriptions/${name}`).send(definition).expect(201)
  gateway.cleanups.unshift(async () => gateway.delete(`/subscriptions/${name}`))
  return body
}

/** A backoff of 100 ms after every attempt. */
export const QUICK = { initial: '100ms', factor: 1, jitter: 0 }

/** Declares a queue and a subscription that delivers it to a new endpoint. `status` gets the subscription. */
export async function subscribed(gateway: Gateway, definition: object = {}, declaration: object = { type: 'quorum' }) {
  const receiver = await startReceiver()
  const queue = await freshQueue(gateway, declaration)
  const name = freshName('subscription')
  const answer = await subscribe(gateway, name, { queue, url: receiver.url, retry: { backoff: QUICK }, ...definition })
  const status = async (at = gateway) => (await at.get(`/subscriptions/${name}`).expect(200)).body
  return { receiver, queue, name, status, secret: answer['secret'] as string }
}

/** Resolves when a queue has no ready message and none that a receive returns. @throws Error after 10 s */
export const isEmpty = (gateway: Gateway, queue: string): Promise<void> =>
  eventually(async () => {
    const { body } = await gateway.get(`/queues/${queue}/messages?ack=requeue`).expect(200)
    const count = await waiting(gateway, queue)
    if (count + body.messages.length > 0) throw new Error(`${count} messages are in ${queue}`)
  })

/** Publishes a message to a queue. @returns its message id */
export const publish = async (
  gateway: Gateway,
  queue: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<string> => (await gateway.post(`/queues/${queue}/messages`).set(headers).send(body).expect(201)).body.message_id

/** The number of ready messages in a queue. */
export const waiting = async (gateway: Gateway, queue: string): Promise<number> =>
  (await gateway.get(`/queues/${queue}`).expect(200)).body.message_count
