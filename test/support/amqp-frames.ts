// An AMQP client of a bare socket, which publishes and gets messages as the bytes of their frames: no library between the test
// and the wire decodes or encodes anything.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** A message as it stands on the wire. */
export interface WireMessage {
  exchange: string
  routingKey: string
  /** The flags and the properties, as in the content header. */
  properties: Buffer
  body: Buffer
}

interface Frame {
  type: number
  payload: Buffer
}

const METHOD = 1
const HEADER = 2
const BODY = 3
const FRAME_MAX = 131_072

const short = (value: number): Buffer => Buffer.of(value >> 8, value & 255)
export const long = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
/** A text of up to 255 bytes, with its length. */
export const shortText = (text: string | Buffer): Buffer => {
  const bytes = Buffer.from(text as string)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}
/** Bytes with a length of four bytes. */
export const longText = (text: string | Buffer): Buffer => {
  const bytes = Buffer.from(text as string)
  return Buffer.concat([long(bytes.length), bytes])
}
const method = (classId: number, id: number, ...fields: Buffer[]): Buffer => Buffer.concat([short(classId), short(id), ...fields])

export class FrameClient {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #error: Error | undefined
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('error', (error) => {
      this.#error = error
    })
    for (const event of ['readable', 'close']) socket.on(event, () => this.#wake())
  }

  /** Connects and opens a channel with confirms. */
  static async connect(amqpUrl: string): Promise<FrameClient> {
    const { hostname, port, username, password, pathname } = new URL(amqpUrl)
    const socket = connect(Number(port || 5672), hostname)
    await once(socket, 'connect')
    const client = new FrameClient(socket)
    socket.write(Buffer.from('AMQP\0\0\u0009\u0001', 'latin1'))
    await client.#expect(10, 10)
    const secret = `\0${decodeURIComponent(username)}\0${decodeURIComponent(password)}`
    client.#send(0, METHOD, method(10, 11, long(0), shortText('PLAIN'), longText(secret), shortText('en_US')))
    await client.#expect(10, 30)
    client.#send(0, METHOD, method(10, 31, short(2047), long(FRAME_MAX), short(0)))
    const vhost = decodeURIComponent(pathname.slice(1)) || '/'
    client.#send(0, METHOD, method(10, 40, shortText(vhost), shortText(''), Buffer.of(0)))
    await client.#expect(10, 41)
    client.#send(1, METHOD, method(20, 10, shortText('')))
    await client.#expect(20, 11)
    client.#send(1, METHOD, method(85, 10, Buffer.of(0)))
    await client.#expect(85, 11)
    return client
  }

  /** Publishes a message, and resolves when RabbitMQ has confirmed it. @throws Error if RabbitMQ closes the channel instead */
  async publish({ exchange, routingKey, properties, body }: WireMessage): Promise<void> {
    this.#send(1, METHOD, method(60, 40, short(0), shortText(exchange), shortText(routingKey), Buffer.of(0)))
    const size = Buffer.alloc(8)
    size.writeBigUInt64BE(BigInt(body.length))
    this.#send(1, HEADER, Buffer.concat([short(60), short(0), size, properties]))
    if (body.length > 0) this.#send(1, BODY, body)
    await this.#expect(60, 80)
  }

  /** Gets a message and acknowledges it; undefined if the queue is empty. */
  async get(queue: string): Promise<WireMessage | undefined> {
    this.#send(1, METHOD, method(60, 70, short(0), shortText(queue), Buffer.of(1)))
    const { payload } = await this.#frame()
    if (payload.readUInt16BE(2) === 72) return undefined
    if (payload.readUInt16BE(2) !== 71) throw new Error(`RabbitMQ answered ${payload.toString('latin1')}`)
    const exchangeAt = 4 + 8 + 1
    const keyAt = exchangeAt + 1 + payload.readUInt8(exchangeAt)
    const text = (at: number) => payload.toString('utf8', at + 1, at + 1 + payload.readUInt8(at))
    const header = (await this.#frame()).payload
    const size = Number(header.readBigUInt64BE(4))
    const parts: Buffer[] = []
    for (let length = 0; length < size; ) {
      const part = (await this.#frame()).payload
      parts.push(part)
      length += part.length
    }
    const properties = Buffer.from(header.subarray(12))
    return { exchange: text(exchangeAt), routingKey: text(keyAt), properties, body: Buffer.concat(parts) }
  }

  /** Closes the socket. */
  close(): void {
    this.#socket.destroy()
  }

  #send(channel: number, type: number, payload: Buffer): void {
    this.#socket.write(Buffer.concat([Buffer.of(type), short(channel), long(payload.length), payload, Buffer.of(0xce)]))
  }

  async #expect(classId: number, id: number): Promise<void> {
    const { payload } = await this.#frame()
    if (payload.readUInt16BE(0) !== classId || payload.readUInt16BE(2) !== id)
      throw new Error(`RabbitMQ answered ${payload.toString('latin1')}`)
  }

  /** The next frame that is no heartbeat. */
  async #frame(): Promise<Frame> {
    for (;;) {
      const size = this.#received.length >= 7 ? this.#received.readUInt32BE(3) : undefined
      if (size !== undefined && this.#received.length >= size + 8) {
        const frame = { type: this.#received.readUInt8(0), payload: this.#received.subarray(7, 7 + size) }
        this.#received = this.#received.subarray(size + 8)
        if (frame.type !== 8) return frame
        continue
      }
      if (this.#error || this.#socket.destroyed) throw this.#error ?? new Error('RabbitMQ closed the connection')
      const chunk: Buffer | null = this.#socket.read()
      if (chunk) this.#received = Buffer.concat([this.#received, chunk])
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }
}
