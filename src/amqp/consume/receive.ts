// What a receive is asked for, how it is ended from outside, and how its messages go back.

import type { Delivery } from './delivery.js'

export interface ReceiveOptions {
  queue: string
  /** 1 to 1000. */
  max: number
  /** Until when to wait for the first message, on the monotonic clock. */
  until: number
  /** The most bytes of bodies in all, beyond which only a single message goes. */
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
