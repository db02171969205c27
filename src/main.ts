// The process: configuration, listening, signals.

import cluster from 'node:cluster'
import closeWithGrace, { type AllEvents } from 'close-with-grace'
import { pino } from 'pino'
import type { App } from './app.js'
import { obeyPrimary, sumMetrics, supervise } from './cluster.js'
import { type Config, ConfigError, loadConfig, rereadsFiles } from './config/index.js'

try {
  const config = loadConfig(process.env)
  if (config.WORKERS > 1 && cluster.isPrimary) supervise(config, pino({ level: config.LOG_LEVEL }))
  else await serve(config)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  console.error(error.message)
  process.exit(78) // EX_CONFIG of sysexits.h
}

async function serve(config: Config): Promise<void> {
  const { buildApp, LISTEN_BACKLOG } = await import('./app.js') // which a primary never needs
  const app = await buildApp(config)
  if (cluster.isWorker) sumMetrics(app.services.metrics)
  const skip: AllEvents[] = cluster.isWorker ? ['SIGINT', 'SIGTERM'] : []
  if (rereadsFiles(config)) {
    process.on('SIGHUP', app.reload)
    skip.push('SIGHUP')
  }
  const options = { delay: config.SHUTDOWN_DRAIN + 15_000, logger: app.http.log, skip }
  const closing = closeWithGrace(options, async ({ err, signal }) => {
    if (err) app.http.log.error({ err }, 'shutting down after a defect')
    else app.http.log.info({ signal }, 'shutting down')
    await shutDown(app, err ? 0 : config.SHUTDOWN_DRAIN)
  })
  if (cluster.isWorker) obeyPrimary({ shutDown: closing.close, reload: app.reload })
  await app.http.listen({ host: config.HOST, port: config.PORT, backlog: LISTEN_BACKLOG })
  await app.operations?.listen({ host: config.OPERATIONS_HOST ?? config.HOST, port: config.OPERATIONS_PORT! })
}

/** Not ready, no receives, leases may still be settled for a while, then everything goes back. */
async function shutDown({ closeApp: close, services }: App, drain: number): Promise<void> {
  services.drain()
  const end = Date.now() + drain
  while (services.leases.open > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50))
  await close()
}
