// A TCP proxy between a gateway and its broker that does to connections what networks do to them.

import { connect, createServer, type Server, type Socket } from 'node:net'
import { after } from 'node:test'

interface Pair {
  client: Socket
  server: Socket
}

/** How long a chunk takes: nothing, for ever, or as slow as a bad line. */
type Pace = 'fast' | 'frozen' | { bytesPerSecond: number }

export class CuttingProxy {
  readonly #target: number
  readonly #pairs = new Set<Pair>()
  #server: Server | undefined
  #pace: Pace = 'fast'
  /** Chunks that a frozen line holds back. */
  #held: (() => void)[] = []
  port = 0
  /** Connections made through it, ever. */
  accepted = 0

  private constructor(target: number) {
    this.#target = target
  }

  /** A proxy to a port of this machine, listening on a free one. */
  static async start(target: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target)
    await proxy.accept()
    return proxy
  }

  /** Listens again after refuse(). */
  async accept(): Promise<void> {
    const server = createServer((client) => this.#open(client))
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve))
    const address = server.address()
    this.port = typeof address === 'object' && address ? address.port : 0
  }

  /** From now on connections are refused; those that stand go on. */
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

  /** Ends every connection with a FIN, in the middle of whatever was being said. */
  finish(): void {
    for (const { client, server } of this.#pairs) {
      client.end()
      server.end()
    }
  }

  /** Holds everything back, as a line that is down and nobody knows. */
  freeze(): void {
    this.#pace = 'frozen'
  }

  slow(bytesPerSecond: number): void {
    this.#pace = { bytesPerSecond }
  }

  /** Lets everything through again, what was held back first. */
  thaw(): void {
    this.#pace = 'fast'
    for (const go of this.#held.splice(0)) go()
  }

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

/** A proxy to the broker of an AMQP URL, closed after the test, and the URL through it. */
export async function proxied(amqpUrl: string): Promise<{ proxy: CuttingProxy; url: string }> {
  const url = new URL(amqpUrl)
  const proxy = await CuttingProxy.start(Number(url.port || 5672))
  after(() => proxy.close())
  url.hostname = '127.0.0.1'
  url.port = String(proxy.port)
  return { proxy, url: url.href }
}
