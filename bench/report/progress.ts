// Says what runs just now: one line that changes in a terminal, one line a case elsewhere.

export class Progress {
  readonly #total: number
  readonly #from = Date.now()
  #done = 0
  #name = ''

  constructor(total: number) {
    this.#total = total
  }

  /** A case begins. */
  begin(name: string): void {
    this.#name = name
    this.#done++
    if (!process.stderr.isTTY) process.stderr.write(`${this.#line('')}\n`)
  }

  /** What it does just now. */
  detail(text: string): void {
    if (process.stderr.isTTY)
      process.stderr.write(`\r\u001b[K${this.#line(` · ${text}`).slice(0, (process.stderr.columns ?? 80) - 1)}`)
  }

  /** Takes the line away, so that something else can be printed. */
  clear(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  }

  #line(rest: string): string {
    const seconds = Math.round((Date.now() - this.#from) / 1000)
    const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
    return `▸ ${time} [${this.#done}/${this.#total}] ${this.#name}${rest}`
  }
}
