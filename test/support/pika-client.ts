// Other AMQP clients as processes: Debian's python3-pika and amqp-tools.

import { execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { after } from 'node:test'
import { AMQP_URL } from './gateway.js'

export interface PikaMessage {
  delivery_tag: number
  redelivered: boolean
  exchange: string
  routing_key: string
  properties: Record<string, unknown>
  headers: Record<string, unknown>
  /** base64 */
  body: string
}

interface PikaPublish {
  routing_key: string
  exchange?: string
  body: Buffer | string
  properties?: Record<string, unknown>
  headers?: Record<string, unknown>
}

/** A pika client. Each method resolves when RabbitMQ has answered. */
export interface Pika {
  publish: (message: PikaPublish) => Promise<void>
  /** Gets a message without acknowledging it; null if the queue is empty. */
  get: (queue: string) => Promise<PikaMessage | null>
  ack: (message: PikaMessage) => Promise<void>
  nack: (message: PikaMessage, requeue: boolean) => Promise<void>
  /** The number of ready messages. */
  count: (queue: string) => Promise<number>
}

/** Starts pika_peer.py with the system's Python, which has Debian's pika. It ends after the tests. */
export function startPika(): Pika {
  const child = spawn('/usr/bin/python3', ['test/interop/pika_peer.py'], {
    env: { AMQP_URL },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  after(() => {
    child.stdin.end()
  })
  const waiting: { resolve: (answer: unknown) => void; reject: (error: Error) => void }[] = []
  createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.resolve(JSON.parse(line)))
  child.once('exit', (code) => {
    for (const { reject } of waiting.splice(0)) reject(new Error(`the pika client ended with ${code}`))
  })
  const ask = (command: object) =>
    new Promise<unknown>((resolve, reject) => {
      waiting.push({ resolve, reject })
      child.stdin.write(`${JSON.stringify(command)}\n`)
    })
  return {
    publish: async (message) => {
      await ask({ do: 'publish', ...message, body: Buffer.from(message.body).toString('base64') })
    },
    get: async (queue) => (await ask({ do: 'get', queue })) as PikaMessage | null,
    ack: async ({ delivery_tag }) => {
      await ask({ do: 'ack', delivery_tag })
    },
    nack: async ({ delivery_tag }, requeue) => {
      await ask({ do: 'nack', delivery_tag, requeue })
    },
    count: async (queue) => (await ask({ do: 'count', queue })) as number,
  }
}

// rabbitmq-c reads a trailing slash as the vhost "", and a URL without a path as the vhost "/".
const toolUrl = AMQP_URL.replace(/\/$/, '')

/** Runs a program of amqp-tools. Resolves with its standard output. @throws Error with its standard error if it fails */
export function amqpTool(name: string, args: string[], input?: Buffer | string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      name,
      ['--url', toolUrl, ...args],
      { encoding: 'buffer', maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`${name}: ${error.message} ${stderr}`))
        else resolve(stdout)
      },
    )
    child.stdin!.end(input ?? '')
  })
}
