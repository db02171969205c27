// Waits for a condition instead of a fixed time.

/**
 * Calls `check` every 25 ms until it does not throw, and resolves with its value.
 * @param timeout in milliseconds
 * @throws the last error of `check` after the timeout
 */
export async function eventually<T>(check: () => T | Promise<T>, timeout = 10_000): Promise<T> {
  const end = Date.now() + timeout
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (Date.now() > end) throw error
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
}
