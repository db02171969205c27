// Waiting for what becomes true, instead of sleeping and hoping.

/** Calls `check` until it does not throw and returns its value; fails with its last error after `timeout` milliseconds. */
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
