// Gateways as processes that are restarted when they end, each behind its own cutting proxy to the broker.

import { type ChildProcess, spawn } from 'node:child_process'
import { Agent, request } from 'node:http'
import { freePort } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { endWithTheRun } from '../support/process.js'
import { CuttingProxy } from '../support/proxy.js'

export interface HttpResponse {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
}

/** The proxies between a gateway and its brokers. */
export type BrokerLink = Pick<CuttingProxy, 'reset' | 'finish' | 'freeze' | 'thaw' | 'refuse' | 'close' | 'slow' | 'accept'>

/** A gateway process. It is started again whenever it ends, until stop(). */
export class Instance {
  readonly port: number
  readonly proxy: BrokerLink
  /** Between the other gateways and this one, if it advertises an address. */
  readonly httpProxy: CuttingProxy | undefined
  /** Its user at RabbitMQ. */
  readonly user: string
  readonly #env: Record<string, string>
  readonly #program: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 200 })
  #child: ChildProcess | undefined
  #ending = false
  #output = ''
  /** How often it was started. */
  starts = 0
  /** Its unrequested ends: exit code or signal, and the end of its output. */
  readonly crashes: string[] = []

  constructor(
    options: Pick<Instance, 'port' | 'proxy' | 'httpProxy' | 'user'> & { program: string; env: Record<string, string> },
  ) {
    this.#program = options.program
    this.port = options.port
    this.proxy = options.proxy
    this.httpProxy = options.httpProxy
    this.user = options.user
    this.#env = options.env
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** The id of the current process, or 0 before the first start. */
  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Starts the process, without waiting for anything. */
  start(): void {
    this.starts++
    const child = spawn(process.execPath, [this.#program], { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    let requested = false
    endWithTheRun(child)
    const kill = child.kill.bind(child)
    child.kill = (signal) => {
      requested = true
      return kill(signal)
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        this.#output = (this.#output + chunk).slice(-20_000)
      })
    }
    child.once('exit', (code, signal) => {
      if (!requested) this.crashes.push(`${code ?? signal}: ${this.#output.slice(-1500)}`)
      if (!this.#ending) this.start()
    })
  }

  /** Resolves when /health/ready answers 200. @throws Error with the reason after 60 s */
  async untilReady(): Promise<void> {
    await eventually(async () => {
      const { status, text } = await this.request('GET', '/health/ready')
      if (status !== 200) throw new Error(`${this.url}: ${text}`)
    }, 60_000)
  }

  /** Sends a signal to the process. An end that follows is not a crash. */
  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name)
  }

  /** Sends a request and resolves with its response, whatever the status. @throws Error of the socket without a full response */
  request(
    method: string,
    path: string,
    { headers = {}, body, signal }: { headers?: Record<string, string>; body?: string; signal?: AbortSignal } = {},
  ): Promise<HttpResponse> {
    return new Promise((resolve, reject) => {
      const options = { agent: this.#agent, method, headers, ...(signal && { signal }) }
      const outgoing = request(this.url + path, options, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('error', reject)
        response.on('aborted', () => reject(new Error('aborted')))
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  }

  /** Terminates the process and resolves when it has ended. */
  async stop(): Promise<void> {
    this.#ending = true
    const child = this.#child
    if (child && child.exitCode === null && child.signalCode === null) {
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await exited
    }
    this.#agent.destroy()
    this.proxy.close()
    this.httpProxy?.close()
  }
}

export interface FleetOptions {
  /** AMQP URLs. Each gateway has a proxy to each of them. */
  brokers: string[]
  /** One gateway is started for each user. */
  users: string[]
  /** The program to run as a gateway; dist/src/main.js by default. */
  program?: string
}

/**
 * Starts gateways and resolves when all are ready. The other gateways reach every second one over HTTP, the rest only through
 * RabbitMQ.
 */
export async function startFleet({ brokers, users, program = 'dist/src/main.js' }: FleetOptions): Promise<Instance[]> {
  const instances = await Promise.all(
    users.map(async (user, n) => {
      const proxies = await Promise.all(brokers.map((url) => CuttingProxy.start(Number(new URL(url).port))))
      const through = brokers.map((url, node) => {
        const one = new URL(url)
        one.username = user
        one.password = user
        one.port = String(proxies[node]!.port)
        return one.href
      })
      const port = await freePort()
      const httpProxy = n % 2 === 0 ? await CuttingProxy.start(port) : undefined
      const env = {
        PATH: process.env['PATH'] ?? '',
        PORT: String(port),
        AMQP_URL: through.join(','),
        AMQP_HEARTBEAT: '2s',
        BROKER_TIMEOUT: '3s',
        PUBLISH_TIMEOUT: '5s',
        SHUTDOWN_DELAY: '0s',
        SHUTDOWN_DRAIN: '1s',
        LOG_LEVEL: 'error',
        LEASE_SECRET: 'shared by the soak test',
        ...(httpProxy && { ADVERTISE_URL: `http://127.0.0.1:${httpProxy.port}`, ADVERTISE_SECRET: 'shared by the soak test' }),
      }
      return new Instance({ program, port, proxy: combined(proxies), httpProxy, user, env })
    }),
  )
  for (const instance of instances) instance.start()
  await Promise.all(instances.map((instance) => instance.untilReady()))
  return instances
}

/** The proxies to all nodes of a cluster as one. */
function combined(proxies: CuttingProxy[]): BrokerLink {
  const all = (act: (proxy: CuttingProxy) => void) => () => {
    for (const proxy of proxies) act(proxy)
  }
  return {
    reset: all((proxy) => proxy.reset()),
    finish: all((proxy) => proxy.finish()),
    freeze: all((proxy) => proxy.freeze()),
    thaw: all((proxy) => proxy.thaw()),
    refuse: all((proxy) => proxy.refuse()),
    close: all((proxy) => proxy.close()),
    slow: (bytesPerSecond) => all((proxy) => proxy.slow(bytesPerSecond))(),
    accept: async () => {
      await Promise.all(proxies.map((proxy) => proxy.accept()))
    },
  }
}
