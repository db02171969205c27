// What all cases share: the broker, the gateway under test, the bare server, queues, and how long to measure.

import { existsSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Options } from './options.js'
import type { Progress } from './report/progress.js'
import { Queues } from './targets/queues.js'
import { type Server, startServer } from './targets/server.js'

/** The name of the build that --against brings in. */
export const OTHER_BUILD = 'other build'

/** A build of the gateway that takes part. */
export interface Build {
  name: string
  folder: string
  /** Serves all cases that need nothing special. */
  server: Server
}

export interface Broker {
  amqpUrl: string
  managementUrl: string
  /** The broker's own process, where it is known. */
  pid: number | undefined
}

export class Bench {
  readonly options: Options
  readonly broker: Broker
  readonly queues: Queues
  readonly progress: Progress
  readonly bare: Server
  /** This project's own, then the one it is measured against. */
  readonly builds: Build[]

  private constructor(parts: Pick<Bench, 'options' | 'broker' | 'queues' | 'progress' | 'bare' | 'builds'>) {
    this.options = parts.options
    this.broker = parts.broker
    this.queues = parts.queues
    this.progress = parts.progress
    this.bare = parts.bare
    this.builds = parts.builds
  }

  static async start(options: Options, broker: Broker, progress: Progress): Promise<Bench> {
    const builds: Build[] = []
    for (const [name, folder] of [['gateway', '.'], ...(options.against ? [[OTHER_BUILD, options.against]] : [])]) {
      const profile = name === 'gateway' ? options.profile : undefined
      const server = await startGateway(broker, resolve(folder!), { profile })
      builds.push({ name: name!, folder: resolve(folder!), server })
    }
    const bare = await startServer({
      folder: '.',
      args: [join(import.meta.dirname, 'targets', 'bare-server.js')],
      path: '/health/ready',
    })
    const queues = await Queues.open(broker.amqpUrl)
    return new Bench({ options, broker, queues, progress, bare, builds })
  }

  /** This project's gateway. */
  get gateway(): Build {
    return this.builds[0]!
  }

  /** One more instance, for cases that need a fresh one, or settings of their own. */
  startInstance(build: Build, env: Record<string, string> = {}): Promise<Server> {
    return startGateway(this.broker, build.folder, { env })
  }

  async stop(): Promise<void> {
    await this.queues.close()
    await Promise.all([this.bare, ...this.builds.map(({ server }) => server)].map((server) => server.stop()))
  }
}

/** As shipped: no setting but where to listen and where the broker is, unless the case says so. */
function startGateway(
  broker: Broker,
  folder: string,
  { env, profile }: { env?: Record<string, string>; profile?: string | undefined },
): Promise<Server> {
  const program = join(folder, 'dist', 'src', 'main.js')
  if (!existsSync(program)) throw new Error(`${folder} is not a built copy of this project: there is no dist/src/main.js`)
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
