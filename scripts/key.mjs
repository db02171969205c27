// npm run key: makes an API key, built first where it has to be. What it prints is src/key.ts's to say.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { build, ensurePackages, root } from './project.mjs'

const program = join(root, 'dist', 'src', 'key.js')
if (!existsSync(program)) {
  await ensurePackages()
  await build()
}
await import(program)
