// A deadline around every call to the broker: amqplib's promises may wait for ever when a socket dies at the wrong moment.

import { Problem } from '../../problems.js'

/**
 * Waits for a call to the broker, `milliseconds` at most.
 * @throws Problem broker_timeout when it did not answer in time; else whatever the call threw.
 */
export function within<T>(milliseconds: number, what: string, call: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Problem('broker_timeout', `RabbitMQ did not answer ${what} within ${milliseconds} ms.`))
    }, milliseconds)
    call.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

/** Waits for a call to end, at most for a time, and ignores how it ended: for closing a channel that may already be dead. */
export async function waitQuietly(milliseconds: number, call: Promise<unknown>): Promise<void> {
  await within(milliseconds, 'close', call).catch(() => undefined)
}
