// Shared resources of all cases: the broker, the gateways under test, the bare server, queues and options.

import { existsSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Options } from './options.js'
import type { Progress } from './report/progress.js'
import { Queues } from './targets/queues.js'
import { type Server, startServer } from './targets/server.js'

/** The name of the build that --against adds. */
export const OTHER_BUILD = 'other build'

/** A build of the gateway that takes part. */
export interface Build {
  name: string
  folder: string
  /** Runs with default settings and serves every case that needs no settings of its own. */
  server: Server
}

export interface Broker {
  amqpUrl: string
  managementUrl: string
  /** Process id of the broker, if known. */
  pid: number | undefined
}

/** The running processes that every case of a benchmark uses, with its options and progress line. */
export class Bench {
  readonly options: Options
  readonly broker: Broker
  readonly queues: Queues
  readonly progress: Progress
  readonly bareServer: Server
  /** First this project's build, then the one from --against. */
  readonly builds: Build[]

  private constructor(parts: Pick<Bench, 'options' | 'broker' | 'queues' | 'progress' | 'bareServer' | 'builds'>) {
    this.options = parts.options
    this.broker = parts.broker
    this.queues = parts.queues
    this.progress = parts.progress
    this.bareServer = parts.bareServer
    this.builds = parts.builds
  }

  /**
   * Starts the gateways and the bare server, and resolves when each of them is ready.
   * @throws Error if a build has no dist/src/main.js or a server does not become ready
   */
  static async start(options: Options, broker: Broker, progress: Progress): Promise<Bench> {
    const builds: Build[] = []
    for (const [name, folder] of [['gateway', '.'], ...(options.against ? [[OTHER_BUILD, options.against]] : [])]) {
      const profile = name === 'gateway' ? options.profile : undefined
      const server = await startGateway(broker, resolve(folder!), { profile })
      builds.push({ name: name!, folder: resolve(folder!), server })
    }
    const bareServer = await startServer({
      folder: '.',
      args: [join(import.meta.dirname, 'targets', 'bare-server.js')],
      path: '/health/ready',
    })
    const queues = await Queues.open(broker.amqpUrl)
    return new Bench({ options, broker, queues, progress, bareServer, builds })
  }

  /** This project's build of the gateway. */
  get gateway(): Build {
    return this.builds[0]!
  }

  /** Starts another instance of a build with the given settings, for cases that need a fresh one. Resolves when it is ready. */
  startInstance(build: Build, env: Record<string, string> = {}): Promise<Server> {
    return startGateway(this.broker, build.folder, { env })
  }

  /** Closes the connections to the broker and stops all servers. */
  async stop(): Promise<void> {
    await this.queues.close()
    await Promise.all([this.bareServer, ...this.builds.map(({ server }) => server)].map((server) => server.stop()))
  }
}

/** Starts a gateway with default settings, apart from the port, the broker and what the case sets in `env`. */
function startGateway(
  broker: Broker,
  folder: string,
  { env, profile }: { env?: Record<string, string>; profile?: string | undefined },
): Promise<Server> {
  const program = join(folder, 'dist', 'src', 'main.js')
  if (!existsSync(program)) throw new Error(`${folder} is not a built copy of this project: dist/src/main.js is missing`)
  if (profile) mkdirSync(profile, { recursive: true })
  const profiling = profile ? ['--cpu-prof', '--cpu-prof-interval', '500', `--cpu-prof-dir=${resolve(profile)}`] : []
  return startServer({
    folder,
    args: [...profiling, program],
    path: '/health/ready',
    workers: Number(env?.['WORKERS'] ?? 1),
    env: { PORT: '0', AMQP_URL: broker.amqpUrl, SHUTDOWN_DRAIN: '0s', ...env },
  })
}
