// Where the log goes: standard output. It may be a full disk, a pipe that nobody reads, or a terminal that is gone. None of them
// holds up the service or its end: lines that cannot be written are dropped and counted, and later ones are tried again.
//
// Not pino's own destination: it reports write errors as uncaught ones, and at the end of the process tries again without end.

import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs'
import { isatty } from 'node:tty'

/** Bytes that wait for a slow reader; lines beyond are dropped. */
const MAX_WAITING_BYTES = 1024 * 1024
/** Between two attempts to write to a reader that is slow. */
const RETRY_MS = 100

/** Writes lines to a file descriptor without ever waiting. */
export class LogOutput {
  /** Lines that were not written, or only in part. */
  dropped = 0
  readonly #fd: number
  /** What waits for a slow reader, a line each. The first one may be written in part. */
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #timer: NodeJS.Timeout | undefined
  /** The last line that was written is not whole: the next one begins on a line of its own. */
  #isTorn = false

  /** @param fd a descriptor that does not block, or a file */
  constructor(fd: number) {
    this.#fd = fd
  }

  /** Writes a line, with its line end, at once or a little later. Never throws. */
  write(line: string): void {
    const bytes = Buffer.from(this.#isTorn && this.#waiting.length === 0 ? `\n${line}` : line)
    if (this.#waitingBytes + bytes.length > MAX_WAITING_BYTES) {
      this.dropped++
      return
    }
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#timer === undefined) this.flush()
  }

  /** Writes what waits as far as possible now, and tries the rest again later. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    try {
      for (let line = this.#waiting[0]; line; line = this.#waiting[0]) this.#advance(line, writeSync(this.#fd, line))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') this.#timer = setTimeout(() => this.flush(), RETRY_MS).unref()
      else this.#drop()
    }
  }

  /** The first line was written, perhaps in part. */
  #advance(line: Buffer, written: number): void {
    this.#waitingBytes -= written
    this.#isTorn = written < line.length
    if (this.#isTorn) this.#waiting[0] = line.subarray(written)
    else this.#waiting.shift()
  }

  #drop(): void {
    this.dropped += this.#waiting.length
    this.#waiting = []
    this.#waitingBytes = 0
  }
}

let shared: LogOutput | undefined

/** Standard output, as the log of this process. It is opened at the first call. */
export function standardOutput(): LogOutput {
  shared ??= openStandardOutput()
  return shared
}

/** How many lines of the log could not be written. */
export const droppedLogLines = (): number => shared?.dropped ?? 0

function openStandardOutput(): LogOutput {
  const output = new LogOutput(withoutBlocking(1))
  process.stderr.on('error', () => undefined) // it gets Node's own warnings
  const terminals = [0, 1, 2].filter((fd) => isatty(fd))
  process.on('exit', () => {
    output.flush()
    // Node aborts over a terminal that is gone, when it restores its mode at the end. It passes over what is closed.
    for (const fd of terminals) if (!isatty(fd)) closeSync(fd)
  })
  return output
}

/** A descriptor of the same pipe or terminal that does not block. The inherited one may be shared with other processes. */
function withoutBlocking(fd: number): number {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants
  try {
    if (fstatSync(fd).isFile()) return fd // it has a position, and never blocks
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY)
  } catch {
    // A socket cannot be opened again. Node makes it non-blocking when it makes a stream of it.
    process.stdout.on('error', () => undefined)
    return fd
  }
}
