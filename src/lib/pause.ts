// A wait that an event may end early, without losing an event that comes just before the wait begins.

/** For a loop that looks at its state again and again, and sleeps in between until something changes. */
export class Pause {
  #isAwake = false
  #end: (() => void) | undefined

  /**
   * Waits until `end()` is called, at most `milliseconds` (undefined: no limit). If `end()` was called since the last wait, it
   * returns at once.
   * @returns whether it was ended, rather than timed out
   */
  async take(milliseconds?: number): Promise<boolean> {
    if (!this.#isAwake) {
      await new Promise<void>((resolve) => {
        const timer = milliseconds === undefined ? undefined : setTimeout(resolve, milliseconds)
        this.#end = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const wasEnded = this.#isAwake
    this.#isAwake = false
    this.#end = undefined
    return wasEnded
  }

  /** Ends the current wait, or the next one if none is running. */
  end(): void {
    this.#isAwake = true
    this.#end?.()
  }
}
