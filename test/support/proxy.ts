// A TCP proxy between a gateway and its broker that disturbs connections as networks do.

import { connect, createServer, type Server, type Socket } from 'node:net'
import { after } from 'node:test'

interface Pair {
  client: Socket
  server: Socket
}

/** How fast chunks pass: at once, not at all, or at a rate for each direction of a connection. */
type Pace = 'fast' | 'frozen' | { bytesPerSecond: number }

/** A proxy to one port. Every disturbance affects all of its connections. */
export class CuttingProxy {
  readonly #target: number
  readonly #pairs = new Set<Pair>()
  #server: Server | undefined
  #pace: Pace = 'fast'
  /** Writes that a frozen proxy holds back. */
  #held: (() => void)[] = []
  port = 0
  /** The number of connections that it has accepted so far. */
  accepted = 0

  private constructor(target: number) {
    this.#target = target
  }

  /** Starts a proxy to a port of this machine on a free port. */
  static async start(target: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target)
    await proxy.accept()
    return proxy
  }

  /** Listens on its port, again after refuse(). */
  async accept(): Promise<void> {
    const server = createServer((client) => this.#open(client))
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve))
    const address = server.address()
    this.port = typeof address === 'object' && address ? address.port : 0
  }

  /** Refuses new connections. Existing ones continue. */
  refuse(): void {
    this.#server?.close()
  }

  /** Ends every connection with a RST, as a crashed host or a firewall does. */
  reset(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
  }

  /** Ends every connection with a FIN, also in the middle of a frame. */
  finish(): void {
    for (const { client, server } of this.#pairs) {
      client.end()
      server.end()
    }
  }

  /** Holds all data back while the connections stay open, as a network does that drops packets. */
  freeze(): void {
    this.#pace = 'frozen'
  }

  /** Limits the rate of each direction of each connection. */
  slow(bytesPerSecond: number): void {
    this.#pace = { bytesPerSecond }
  }

  /** Ends freeze() and slow(). The data that was held back passes first. */
  thaw(): void {
    this.#pace = 'fast'
    for (const go of this.#held.splice(0)) go()
  }

  /** Stops listening and ends all connections. */
  close(): void {
    this.refuse()
    this.reset()
    this.thaw()
  }

  #open(client: Socket): void {
    this.accepted++
    const pair = { client, server: connect(this.#target, '127.0.0.1') }
    this.#pairs.add(pair)
    const gone = () => {
      this.#pairs.delete(pair)
      pair.client.destroy()
      pair.server.destroy()
    }
    for (const [from, to] of [
      [pair.client, pair.server],
      [pair.server, pair.client],
    ] as const) {
      from.setNoDelay(true)
      from.on('error', gone)
      from.on('close', gone)
      from.on('end', () => to.end())
      from.on('data', (chunk) => this.#pass(from, to, chunk))
    }
  }

  #pass(from: Socket, to: Socket, chunk: Buffer): void {
    const write = () => {
      if (to.destroyed) return
      if (to.write(chunk)) from.resume()
      else to.once('drain', () => from.resume())
    }
    if (this.#pace === 'fast') {
      if (!to.destroyed && !to.write(chunk)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
      return
    }
    from.pause()
    if (this.#pace === 'frozen') this.#held.push(write)
    else setTimeout(write, (chunk.length / this.#pace.bytesPerSecond) * 1000)
  }
}

/** Starts a proxy to the broker of an AMQP URL, which is closed after the test. @returns it and the AMQP URL through it */
export async function proxied(amqpUrl: string): Promise<{ proxy: CuttingProxy; url: string }> {
  const url = new URL(amqpUrl)
  const proxy = await CuttingProxy.start(Number(url.port || 5672))
  after(() => proxy.close())
  url.hostname = '127.0.0.1'
  url.port = String(proxy.port)
  return { proxy, url: url.href }
}
