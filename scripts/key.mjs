// npm run key: makes an API key with the built gateway's own command, built first if it has to be.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { build, ensurePackages, root } from './project.mjs'

const program = join(root, 'dist', 'src', 'main.js')
if (!existsSync(program)) {
  await ensurePackages()
  await build()
}
process.exitCode = spawnSync(process.execPath, [program, 'key', ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1
