// Writes openapi/openapi.json from the routes of the built app; with --check says whether the one checked in is the same.

import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const file = join(root, 'openapi', 'openapi.json')
const { buildApp } = await import(join(root, 'dist', 'src', 'app.js'))
const { loadConfig } = await import(join(root, 'dist', 'src', 'config', 'index.js'))

const app = await buildApp(loadConfig({ LOG_LEVEL: 'silent' }))
await app.http.ready()
const generated = `${JSON.stringify(app.http.swagger(), null, 2)}\n`
await app.closeApp()

if (!process.argv.includes('--check')) {
  writeFileSync(file, generated)
  console.log('openapi/openapi.json is written')
} else if (readFileSync(file, 'utf8') !== generated) {
  console.error('openapi/openapi.json is not what the routes say: run npm run openapi')
  process.exitCode = 1
}
