// The process: its command line, configuration, listening, signals.

import cluster from 'node:cluster'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import closeWithGrace, { type AllEvents } from 'close-with-grace'
import { pino } from 'pino'
import { hasTerminal, obeyPrimary, sumMetrics, supervise } from './cluster.js'
import { type Config, ConfigError, endTimeout, loadConfig, outdatedNames, rereadsFiles } from './config/index.js'
import { standardOutput } from './lib/log-output.js'
import { Shutdown } from './shutdown.js'

const HELP = `rabbitmq-http-gateway: RabbitMQ for everything that speaks HTTP.

  node dist/src/main.js            serve; the environment, and a file .env, have the settings
  node dist/src/main.js key …      make an API key (key alone tells how)
  node dist/src/main.js health     exit 0 if the gateway with these settings is alive, 1 if not
  node dist/src/main.js --version  print the version
  node dist/src/main.js --help     print this

.env.example lists the settings.`

// Exit codes of sysexits.h.
const EX_USAGE = 64
const EX_CONFIG = 78

const [command = 'serve', ...args] = process.argv.slice(2)
try {
  await run(command, args)
} catch (error) {
  const sentence = listenFailure(error)
  if (!sentence && !(error instanceof ConfigError)) throw error
  console.error(sentence ?? (error as ConfigError).message)
  process.exit(sentence ? 1 : EX_CONFIG)
}

async function run(command: string, args: string[]): Promise<void> {
  switch (command) {
    case 'serve': {
      if (args.length > 0) return misused(`${args[0]} is not an option.`)
      const config = configure()
      if (config.WORKERS > 1 && cluster.isPrimary) supervise(config, pino({ level: config.LOG_LEVEL }, standardOutput()))
      else await serve(config)
      return
    }
    case 'key': {
      const { printKey } = await import('./access/create-key.js')
      if (!printKey(args)) process.exitCode = EX_USAGE
      return
    }
    case 'health': {
      const { checkHealth } = await import('./instances/health-check.js')
      process.exitCode = await checkHealth(configure())
      return
    }
    case '--help':
    case '-h':
      console.log(HELP)
      return
    case '--version':
      console.log(version())
      return
    default:
      misused(`There is no command or option ${command}.`)
  }
}

function misused(sentence: string): void {
  console.error(`${sentence} --help lists what there is.`)
  process.exitCode = EX_USAGE
}

/** The environment with the settings of a file .env, which never replace a variable that is set. @throws ConfigError */
function configure(): Config {
  if (existsSync('.env')) {
    try {
      process.loadEnvFile('.env')
    } catch (error) {
      throw new ConfigError([`.env cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'it is malformed'}`])
    }
  }
  return loadConfig(process.env)
}

/** The version in package.json, which stands above this file whether it is compiled or not. */
function version(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }).version
}

/** A sentence for an address that cannot be listened on; undefined for every other error. */
function listenFailure(error: unknown): string | undefined {
  const { code, syscall, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number }
  if (syscall !== 'listen' && syscall !== 'bind') return undefined
  const reasons: Record<string, string> = {
    EADDRINUSE: 'another program uses it',
    EACCES: 'this user may not listen on it',
    EADDRNOTAVAIL: 'this machine does not have that address',
  }
  return `The gateway cannot listen on ${address ?? ''}:${port ?? ''}: ${reasons[code ?? ''] ?? code}.`
}

async function serve(config: Config): Promise<void> {
  const { buildApp, LISTEN_BACKLOG } = await import('./app.js') // a primary of several workers never needs it
  const app = await buildApp(config)
  if (cluster.isWorker) sumMetrics(app.services.metrics)
  const skip: AllEvents[] = ['SIGINT', 'SIGTERM'] // they are handled here: a second one has a meaning of its own
  if (rereadsFiles(config) || !hasTerminal()) {
    process.on('SIGHUP', app.reload) // without files to read again it does nothing
    skip.push('SIGHUP')
  }
  const options = { delay: endTimeout(config), logger: app.http.log, skip }
  const shutdown = new Shutdown({
    config,
    log: app.http.log,
    services: app.services,
    close: app.close,
    hasTerminal: hasTerminal(),
  })
  const closing = closeWithGrace(options, ({ err, signal }) => shutdown.run(signal, err))
  const end = (signal?: string) => {
    if (shutdown.hasBegun) return shutdown.hurry()
    shutdown.signal = signal
    void closing.close()
    return true
  }
  if (cluster.isWorker) obeyPrimary({ shutDown: end, reload: app.reload })
  else {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (end(signal)) return
        app.http.log.error({ signal }, 'another signal during the shutdown: exiting at once')
        process.exit(1)
      })
    }
  }
  for (const { name, formerly } of outdatedNames(process.env)) app.http.log.warn({ name, formerly }, 'setting has a new name')
  try {
    await app.http.listen({ host: config.HOST, port: config.PORT, backlog: LISTEN_BACKLOG })
    if (config.OPERATIONS_PORT !== undefined)
      await app.operations?.listen({ host: config.OPERATIONS_HOST ?? config.HOST, port: config.OPERATIONS_PORT })
  } catch (error) {
    closing.uninstall()
    await app.close()
    throw error
  }
}
