// Files of a test, which are deleted after it.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'

/** Writes a file into a new folder, which is deleted after the tests. @returns its path */
export function freshFile(name: string, content: string | Buffer): string {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-access-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

/** Replaces a file atomically, as programs do that change a file while others read it. */
export function replaceFile(path: string, content: string): void {
  writeFileSync(`${path}.new`, content)
  renameSync(`${path}.new`, path)
}
