// Clients that nobody here wrote, as processes: Debian's python3-pika and amqp-tools.

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

export interface Pika {
  publish: (message: PikaPublish) => Promise<void>
  get: (queue: string) => Promise<PikaMessage | null>
  ack: (message: PikaMessage) => Promise<void>
  nack: (message: PikaMessage, requeue: boolean) => Promise<void>
  count: (queue: string) => Promise<number>
}

/** Starts pika_peer.py with the system's Python, which has Debian's pika. */
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

// rabbitmq-c takes the slash at the end for an empty vhost, and none for the vhost "/".
const toolUrl = AMQP_URL.replace(/\/$/, '')

/** Runs one of amqp-tools against the broker and resolves with what it prints. */
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
