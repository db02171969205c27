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
  readonly #env: Record<string, string>
  readonly #program: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 200 })
  #child: ChildProcess | undefined
  #ending = false
  #output = ''
  starts = 0
  /** Ends that nobody asked for: exit codes, signals, and the last that was printed. */
  readonly crashes: string[] = []

  constructor(program: string, port: number, proxy: Line, env: Record<string, string>) {
    this.#program = program
    this.port = port
    this.proxy = proxy
    this.#env = env
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
  }
}

export interface FleetOptions {
  /** The brokers' AMQP URLs; each gateway has a proxy to each. */
  brokers: string[]
  size: number
  /** The program to run as a gateway. */
  program?: string
  env?: Record<string, string>
}

/** Starts gateways and waits until all are ready. */
export async function startFleet({ brokers, size, program = 'dist/src/main.js', env = {} }: FleetOptions): Promise<Instance[]> {
  const instances = await Promise.all(
    Array.from({ length: size }, async () => {
      const proxies = await Promise.all(brokers.map((url) => CuttingProxy.start(Number(new URL(url).port))))
      const through = brokers.map((url, n) => url.replace(/:\d+\//, `:${proxies[n]!.port}/`)).join(',')
      const port = await freePort()
      return new Instance(program, port, joined(proxies), {
        PATH: process.env['PATH'] ?? '',
        PORT: String(port),
        AMQP_URL: through,
        AMQP_HEARTBEAT: '2s',
        BROKER_TIMEOUT: '3s',
        PUBLISH_TIMEOUT: '5s',
        SHUTDOWN_DRAIN: '1s',
        LOG_LEVEL: 'error',
        ...env,
      })
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
