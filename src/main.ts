// The process: configuration, listening, signals.

import closeWithGrace from 'close-with-grace'
import { type App, buildApp } from './app.js'
import { ConfigError, loadConfig } from './config.js'

const app = await build()
const { config } = app.services
await app.http.listen({ host: config.HOST, port: config.PORT })
await app.operations?.listen({ host: config.OPERATIONS_HOST ?? config.HOST, port: config.OPERATIONS_PORT! })

// Where files are read that may change it means that they did; elsewhere what it always meant: the terminal is gone.
if (app.reload) process.on('SIGHUP', app.reload)
const skip = app.reload ? ['SIGHUP' as const] : []

closeWithGrace({ delay: config.SHUTDOWN_DRAIN + 15_000, logger: app.http.log, skip }, async ({ err, signal }) => {
  if (err) app.http.log.error({ err }, 'shutting down after a defect')
  else app.http.log.info({ signal }, 'shutting down')
  await shutDown(app, err ? 0 : config.SHUTDOWN_DRAIN)
})

async function build(): Promise<App> {
  try {
    return await buildApp(loadConfig(process.env))
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    console.error(error.message)
    process.exit(78) // EX_CONFIG of sysexits.h
  }
}

/** Not ready, no receives, leases may still be settled for a while, then everything goes back. */
async function shutDown({ close, services }: App, drain: number): Promise<void> {
  services.drain()
  const end = Date.now() + drain
  while (services.leases.open > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50))
  await close()
}
