// One receive: a consumer for as long as it takes, which never takes more messages than the response may hold, and leaves no
// message behind.

import { now } from '../../lib/clock.js'
import { Pause } from '../../lib/pause.js'
import { Problem } from '../../problems.js'
import { brokerProblem } from '../wire/errors.js'
import type { Delivery } from './delivery.js'
import type { DeliveryChannel } from './delivery-channel.js'

export interface ReceiveOptions {
  queue: string
  /** 1 to 1000. */
  max: number
  /** Until when to wait for the first message, on the monotonic clock. */
  until: number
  /** Bodies beyond this many bytes in all go back; the first message never does. */
  maxBytes: number
  abort: ReceiveAbort
  /** Called with 1 when the receive starts to wait because the queue is empty, and with -1 when it stops waiting. */
  onWait?: (change: 1 | -1) => void
}

/**
 * Why a receive was ended from outside. `client_gone`: nobody reads the response. `superseded`: its caller no longer wants
 * messages. `draining`: the gateway shuts down, and the receive returns what it has.
 */
export type AbortReason = 'client_gone' | 'superseded' | 'draining'

/**
 * Ends a waiting receive from outside. It has the vocabulary of AbortController, but for one listener: each receive makes one,
 * and an AbortController costs twenty times the time and five times the memory.
 */
export class ReceiveAbort {
  reason: AbortReason | undefined
  #listener: (() => void) | undefined

  /** The first reason counts. */
  abort(reason: AbortReason): void {
    this.reason ??= reason
    this.#listener?.()
  }

  /** Sets the listener, in place of the one before; undefined removes it. */
  onAbort(listener: (() => void) | undefined): void {
    this.#listener = listener
  }

  /** Whether the messages have nobody to go to. */
  get isUnwanted(): boolean {
    return this.reason === 'client_gone' || this.reason === 'superseded'
  }
}

/** How long the second look at a queue that has messages waits for the first of them. */
const SECOND_LOOK_MS = 250

let receiveTags = 0

/**
 * Takes up to `max` messages, as soon as there is at least one, on a channel that no other receive uses. Resolves with an empty
 * list if none came in time, or if the receive was aborted.
 * @throws Problem queue_not_found, stream_queue, resource_locked, access_refused, broker_unavailable, broker_timeout;
 *   the channel is then closed, or closing, and everything it had taken is back in the queue
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
  { queue, max, until, abort, onWait }: ReceiveOptions,
): Promise<Delivery[]> {
  const deliveries: Delivery[] = []
  let end = until
  let looked = false
  for (;;) {
    let ended = false
    const pause = new Pause()
    const wake = () => pause.end()
    const tag = `gateway.${++receiveTags}`
    channel.onClosed = wake
    await channel.consume(queue, { tag, prefetch: max }, (delivery) => {
      if (delivery) deliveries.push(delivery)
      else ended = true
      wake()
    })
    const left = end - now()
    if (left > 0 && deliveries.length === 0 && !ended && !abort.reason) {
      abort.onAbort(wake)
      onWait?.(1)
      await pause.take(left)
      onWait?.(-1)
      abort.onAbort(undefined)
    }
    if (channel.closed) throw channel.failure()
    if (!ended) {
      const cancelled = channel.cancel(tag)
      // A consumer whose prefetch is used up gets nothing more, and every settle of these messages comes after the cancel. So
      // nobody waits for its answer. If none comes, the channel is closed, as if it had died a moment later.
      if (deliveries.length === max) {
        cancelled.catch(() => channel.close())
        return deliveries
      }
      await cancelled
      if (deliveries.length > 0 || looked || abort.reason || (await channel.messageCount(queue)) === 0) return deliveries
      // A busy quorum queue may not have sent its messages before the cancel: look once more, and wait a little.
      looked = true
      end = now() + SECOND_LOOK_MS
      continue
    }
    // RabbitMQ ended the consumer: the queue was deleted, or its node went away. Consuming again tells which.
    if (deliveries.length > 0)
      throw new Problem('broker_unavailable', 'RabbitMQ ended the consumer: the queue was deleted or has moved to another node.')
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
  // The channel's own error has the reply code; the call's rejection may only say "channel closed".
  if (channel.closed) return channel.failure()
  void channel.close()
  return brokerProblem(error)
}

/**
 * Gives messages back in order of delivery, and resolves when RabbitMQ has them. Never throws: a channel that dies gives them
 * back as well.
 *
 * RabbitMQ 3 puts nacked messages at the tail of a quorum queue, but the messages of a closing channel at its head, in order.
 * RabbitMQ 4 returns messages that are nacked one by one in blocks, each in an order of its own, but keeps the order of the
 * messages of a single nack.
 */
export async function giveBack(deliveries: Delivery[], brokerVersion: string): Promise<void> {
  const channel = deliveries[0]?.channel
  if (!channel || channel.closed) return
  const before = channel.held
  if (before === deliveries.length) {
    if (requeuesAtTail(brokerVersion) && !channel.isAwaited) return channel.close()
    channel.requeueAll()
  } else {
    for (const delivery of deliveries) channel.settle(delivery, 'requeue')
  }
  if (channel.held === before) return
  await channel.barrier().catch(() => undefined)
}

/** Whether quorum queues of this broker put nacked messages at their tail, as those of RabbitMQ 3 do. */
export const requeuesAtTail = (brokerVersion: string): boolean => brokerVersion.startsWith('3.')
