// The pause of a loop that looks again and again, which something that happens meanwhile may end.

export class Pause {
  #isAwake = false
  #end: (() => void) | undefined

  /** Resolves after so many milliseconds (undefined: never by itself), or when it is ended, or at once where that came before. */
  async take(milliseconds: number | undefined): Promise<void> {
    if (!this.#isAwake) {
      await new Promise<void>((resolve) => {
        const timer = milliseconds === undefined ? undefined : setTimeout(resolve, milliseconds)
        this.#end = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    this.#isAwake = false
    this.#end = undefined
  }

  /** Ends the rest that is under way, or else the next one. */
  end(): void {
    this.#isAwake = true
    this.#end?.()
  }
}
