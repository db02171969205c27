// A file that is read again when it changes, by whatever means: written in place, replaced, or behind a link that turns.

import { readFileSync, unwatchFile, watchFile } from 'node:fs'

const WATCH_INTERVAL_MS = 1000
const MAX_FILE_BYTES = 64 * 1024 * 1024

/**
 * The text of a file, without the byte order mark that some editors put in front.
 * @throws Error that says why not, in words that complete "the file …"
 */
export function readWhole(path: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new Error(`can't be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  if (text.length > MAX_FILE_BYTES) throw new Error(`is larger than ${MAX_FILE_BYTES} bytes`)
  return text.startsWith('\ufeff') ? text.slice(1) : text
}

/** Calls back within a second or two of a change. @returns what ends the watch */
export function watch(path: string, changed: () => void): () => void {
  const listener = () => changed()
  watchFile(path, { interval: WATCH_INTERVAL_MS, persistent: false }, listener)
  return () => unwatchFile(path, listener)
}
