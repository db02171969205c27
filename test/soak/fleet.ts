// Gateways as processes, each behind a cutting proxy of its own to the broker, that are started again when they die.

import { type ChildProcess, spawn } from 'node:child_process'
import { Agent, request } from 'node:http'
import { freePort } from '../../scripts/broker.mjs'
import { eventually } from '../support/eventually.js'
import { CuttingProxy } from '../support/proxy.js'

export interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
}

/** What is between a gateway and its brokers. */
export type Line = Pick<CuttingProxy, 'reset' | 'finish' | 'freeze' | 'thaw' | 'refuse' | 'close' | 'slow' | 'accept'>

export class Instance {
  readonly port: number
  readonly proxy: Line
  /** Between the other gateways and this one, where it advertises an address. */
  readonly door: CuttingProxy | undefined
  /** RabbitMQ's user for it. */
  readonly user: string
  readonly #env: Record<string, string>
  readonly #program: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 200 })
  #child: ChildProcess | undefined
  #ending = false
  #output = ''
  starts = 0
  /** Ends that nobody asked for: exit codes, signals, and the last that was printed. */
  readonly crashes: string[] = []

  constructor(options: Pick<Instance, 'port' | 'proxy' | 'door' | 'user'> & { program: string; env: Record<string, string> }) {
    this.#program = options.program
    this.port = options.port
    this.proxy = options.proxy
    this.door = options.door
    this.user = options.user
    this.#env = options.env
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  start(): void {
    this.starts++
    const child = spawn(process.execPath, [this.#program], { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    let asked = false
    const kill = child.kill.bind(child)
    child.kill = (signal) => {
      asked = true
      return kill(signal)
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        this.#output = (this.#output + chunk).slice(-20_000)
      })
    }
    child.once('exit', (code, signal) => {
      if (!asked) this.crashes.push(`${code ?? signal}: ${this.#output.slice(-1500)}`)
      if (!this.#ending) this.start()
    })
  }

  async ready(): Promise<void> {
    await eventually(async () => {
      const { status, text } = await this.ask('GET', '/health/ready')
      if (status !== 200) throw new Error(`${this.url}: ${text}`)
    }, 60_000)
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name)
  }

  /** @throws the socket's error where no whole answer came */
  ask(
    method: string,
    path: string,
    { headers = {}, body, signal }: { headers?: Record<string, string>; body?: string; signal?: AbortSignal } = {},
  ): Promise<Answer> {
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
    this.door?.close()
  }
}

export interface FleetOptions {
  /** The brokers' AMQP URLs; each gateway has a proxy to each. */
  brokers: string[]
  /** A gateway for each, with that user. */
  users: string[]
  /** The program to run as a gateway. */
  program?: string
}

/**
 * Starts gateways and waits until all are ready. Every other one is reached by the others over HTTP, the rest through RabbitMQ
 * alone.
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
      const door = n % 2 === 0 ? await CuttingProxy.start(port) : undefined
      const env = {
        PATH: process.env['PATH'] ?? '',
        PORT: String(port),
        AMQP_URL: through.join(','),
        AMQP_HEARTBEAT: '2s',
        BROKER_TIMEOUT: '3s',
        PUBLISH_TIMEOUT: '5s',
        SHUTDOWN_DRAIN: '1s',
        LOG_LEVEL: 'error',
        LEASE_SECRET: 'storm',
        ...(door && { ADVERTISE_URL: `http://127.0.0.1:${door.port}`, ADVERTISE_SECRET: 'storm' }),
      }
      return new Instance({ program, port, proxy: joined(proxies), door, user, env })
    }),
  )
  for (const instance of instances) instance.start()
  await Promise.all(instances.map((instance) => instance.ready()))
  return instances
}

/** Proxies to the nodes of a cluster, which are cut together. */
function joined(proxies: CuttingProxy[]): Line {
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
