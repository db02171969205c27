// One receive: a consumer for as long as it takes, that never takes more than it may answer with and leaves nothing behind.

import { Problem } from '../../problems.js'
import { brokerProblem } from '../wire/errors.js'
import type { Delivery } from './delivery.js'
import type { DeliveryChannel } from './delivery-channel.js'

export interface ReceiveOptions {
  queue: string
  /** 1 to 1000. */
  max: number
  /** How long to wait for the first message, in milliseconds since 1970. */
  until: number
  /** Bodies beyond this many bytes go back; the first message never does. */
  maxBytes: number
  interrupt: Interrupt
  /** Told when it begins to wait, since nothing is there, and when it has waited. */
  onWait?: (change: 1 | -1) => void
}

/** Ends a waiting receive from outside: its client went away, or the gateway drains. */
export class Interrupt {
  reason: 'client_gone' | 'draining' | undefined
  #listener: (() => void) | undefined

  fire(reason: 'client_gone' | 'draining'): void {
    this.reason ??= reason
    this.#listener?.()
  }

  listen(listener: (() => void) | undefined): void {
    this.#listener = listener
  }
}

/** Milliseconds for a queue that has messages to send the first. */
const SECOND_LOOK_MS = 250

let receiveTags = 0

/**
 * Takes up to `max` messages, as soon as there is at least one, on a channel that nobody else receives on.
 * @throws Problem queue_not_found, stream_queue, resource_locked, access_refused, broker_unavailable, broker_timeout;
 *   the channel is then closed, or being closed, and whatever it had taken is back in the queue.
 */
export async function receive(channel: DeliveryChannel, options: ReceiveOptions): Promise<Delivery[]> {
  try {
    const deliveries = await collectDeliveries(channel, options)
    return withinBytes(channel, deliveries, options.maxBytes)
  } catch (error) {
    if (error instanceof Problem) {
      void channel.close()
      throw error
    }
    throw channelProblem(channel, error)
  } finally {
    channel.received()
  }
}

async function collectDeliveries(
  channel: DeliveryChannel,
  { queue, max, until, interrupt, onWait }: ReceiveOptions,
): Promise<Delivery[]> {
  const deliveries: Delivery[] = []
  let end = until
  let looked = false
  for (;;) {
    let ended = false
    let wake: () => void = () => undefined
    const awake = new Promise<void>((resolve) => {
      wake = resolve
    })
    const tag = `gateway.${++receiveTags}`
    channel.onClosed = wake
    await channel.consume(queue, { tag, prefetch: max }, (delivery) => {
      if (delivery) deliveries.push(delivery)
      else ended = true
      wake()
    })
    const rest = end - Date.now()
    if (rest > 0 && deliveries.length === 0 && !ended && !interrupt.reason) {
      const timer = setTimeout(wake, rest)
      interrupt.listen(wake)
      onWait?.(1)
      await awake
      onWait?.(-1)
      clearTimeout(timer)
      interrupt.listen(undefined)
    }
    if (channel.closed) throw channel.failure()
    if (!ended) {
      const cancelled = channel.cancel(tag)
      // With its prefetch used up the consumer gets nothing more, and whatever settles one of these comes after the cancel:
      // nobody has to wait for its answer. Should none come, the channel closes, as it does when it dies a moment later.
      if (deliveries.length === max) {
        cancelled.catch(() => channel.close())
        return deliveries
      }
      await cancelled
      if (deliveries.length > 0 || looked || interrupt.reason || (await channel.messageCount(queue)) === 0) return deliveries
      // A busy quorum queue may not have sent what it has before the cancel: once more, with a little patience.
      looked = true
      end = Date.now() + SECOND_LOOK_MS
      continue
    }
    // The broker ended the consumer: the queue was deleted, or its node went away. Asking again tells.
    if (deliveries.length > 0)
      throw new Problem('broker_unavailable', 'RabbitMQ ended the consumer: its queue was deleted, or has moved.')
  }
}

function withinBytes(channel: DeliveryChannel, deliveries: Delivery[], maxBytes: number): Delivery[] {
  let bytes = 0
  const end = deliveries.findIndex((delivery, index) => {
    bytes += delivery.body.length
    return bytes > maxBytes && index > 0
  })
  if (end === -1) return deliveries
  for (const delivery of deliveries.slice(end)) channel.settle(delivery, 'requeue')
  return deliveries.slice(0, end)
}

function channelProblem(channel: DeliveryChannel, error: unknown): Problem {
  // The channel's own error has the reply code; what the call itself was rejected with may only say "channel closed".
  if (channel.closed) return channel.failure()
  void channel.close()
  return brokerProblem(error)
}

/**
 * Gives messages back in the order of their delivery, and resolves when the broker has them.
 * RabbitMQ 3 puts what is nacked at the tail of a quorum queue, but what a closing channel held at its head, in order. RabbitMQ 4
 * puts many that are nacked one by one back in blocks of an order of its own, but all that one nack names in theirs.
 */
export async function giveBack(deliveries: Delivery[], brokerVersion: string): Promise<void> {
  const channel = deliveries[0]?.channel
  if (!channel || channel.closed) return
  const before = channel.held
  if (before === deliveries.length) {
    if (brokerVersion.startsWith('3.') && !channel.isAwaited) return channel.close()
    channel.requeueAll()
  } else {
    for (const delivery of deliveries) channel.settle(delivery, 'requeue')
  }
  if (channel.held === before) return
  await channel.barrier().catch(() => undefined) // a channel that died gave them back as well
}
