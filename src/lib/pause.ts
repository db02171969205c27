// A wait that an event may end early, without losing an event that comes just before the wait begins.

/** For a loop that looks at its state again and again, and sleeps in between until something changes. */
export class Pause {
  #isAwake = false
  #wake: ((wasEnded: boolean) => void) | undefined

  /**
   * Waits until `end()` is called, at most `milliseconds` (undefined: no limit). If `end()` was called since the last wait, it
   * returns at once.
   * @returns whether it was ended, rather than timed out
   */
  take(milliseconds?: number): Promise<boolean> {
    if (this.#isAwake) {
      this.#isAwake = false
      return Promise.resolve(true)
    }
    return new Promise((resolve) => {
      const timer = milliseconds === undefined ? undefined : setTimeout(() => this.#wake?.(false), milliseconds)
      this.#wake = (wasEnded) => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve(wasEnded)
      }
    })
  }

  /** Ends the current wait, or the next one if none is running. */
  end(): void {
    if (this.#wake) this.#wake(true)
    else this.#isAwake = true
  }
}
