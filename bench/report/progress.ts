// Reports which case is running.

/** Writes to stderr: on a terminal one line that it overwrites, otherwise one line per case. */
export class Progress {
  readonly #total: number
  readonly #from = Date.now()
  #done = 0
  #name = ''

  constructor(total: number) {
    this.#total = total
  }

  /** Starts the next case. */
  begin(name: string): void {
    this.#name = name
    this.#done++
    if (!process.stderr.isTTY) process.stderr.write(`${this.#line('')}\n`)
  }

  /** Shows what the case is doing. Only on a terminal. */
  detail(text: string): void {
    if (process.stderr.isTTY)
      process.stderr.write(`\r\u001b[K${this.#line(` · ${text}`).slice(0, (process.stderr.columns ?? 80) - 1)}`)
  }

  /** Erases the line, so that other output can follow. */
  clear(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  }

  #line(rest: string): string {
    const seconds = Math.round((Date.now() - this.#from) / 1000)
    const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
    return `▸ ${time} [${this.#done}/${this.#total}] ${this.#name}${rest}`
  }
}
