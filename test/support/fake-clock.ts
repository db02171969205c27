// A wall clock that a test can set, for a process: Debian's libfaketime. The monotonic clock goes on as it is, as on a machine
// whose date somebody sets.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { freshFile, replaceFile } from './files.js'

const LIBRARY = 'libfaketimeMT.so.1'

/** A clock for processes that are started with its environment. */
export class FakeClock {
  readonly #file = freshFile('clock', '+0')
  readonly env: Record<string, string> = {
    LD_PRELOAD: libraryPath(),
    FAKETIME_TIMESTAMP_FILE: this.#file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1', // its name in older versions
  }

  /** Sets it to the real time plus a number of seconds. */
  set(seconds: number): void {
    replaceFile(this.#file, `${seconds < 0 ? '' : '+'}${seconds}`)
  }
}

/** Debian installs it for each architecture in another folder. */
function libraryPath(): string {
  for (const folder of readdirSync('/usr/lib')) {
    const path = join('/usr/lib', folder, 'faketime')
    try {
      if (readdirSync(path).includes(LIBRARY)) return join(path, LIBRARY)
    } catch {
      // not a folder of an architecture
    }
  }
  throw new Error('faketime is not installed: npm test installs it')
}
