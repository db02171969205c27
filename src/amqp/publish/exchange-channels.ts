// Channels by exchange. A publish to a missing exchange closes its channel, so that no two exchanges may share one.

import { channelsUsedUp } from '../wire/errors.js'

interface ExchangeChannelsOptions<C> {
  /** Whether another channel may be opened beside this many. */
  hasRoom: (open: number) => boolean
  /** Whether a channel may be closed to make room. Undefined: it is still being opened. */
  mayClose: (channel: C | undefined) => boolean
  /** Closes a channel once nothing is in flight on it, and resolves when it is closed. */
  close: (channel: C) => Promise<void>
}

interface Entry<C> {
  opening: Promise<C>
  opened?: C
}

/**
 * A bounded map of channels, one for each exchange, opened on first use. If there is no room, the least recently used one is
 * closed first. The default exchange's channel stays.
 */
export class ExchangeChannels<C> {
  readonly #options: ExchangeChannelsOptions<C>
  #channels = new Map<string, Entry<C>>()
  /** Channels that are being closed to make room. */
  #closing = 0

  constructor(options: ExchangeChannelsOptions<C>) {
    this.#options = options
  }

  /**
   * The exchange's channel, opened if there is none.
   * @param open opens it; calls `closed` when the channel closes, whenever that is
   * @throws what `open` rejects with; the next call opens another one then. Problem too_many_waiters: there is no room for it
   */
  get(exchange: string, open: (closed: () => void) => Promise<C>): Promise<C> {
    const entry = this.#channels.get(exchange)
    if (!entry) return this.replace(exchange, open)
    if (exchange !== '') {
      this.#channels.delete(exchange)
      this.#channels.set(exchange, entry)
    }
    return entry.opening
  }

  /** Opens another channel in place of the exchange's present one, which the caller closes. */
  replace(exchange: string, open: (closed: () => void) => Promise<C>): Promise<C> {
    const channels = this.#channels
    const room = exchange === '' || channels.has(exchange) ? undefined : this.#makeRoom()
    let entry: Entry<C> | undefined // `open` may call `closed` before it returns
    const remove = () => {
      // Another channel may have taken its place.
      if (channels.get(exchange) === entry) channels.delete(exchange)
    }
    const opening = room ? room.then(() => open(remove)) : open(remove)
    entry = { opening }
    channels.set(exchange, entry)
    opening.then((channel) => {
      if (entry) entry.opened = channel
    }, remove)
    return opening
  }

  /** Removes the exchange's channel, so that the next use opens another one. */
  remove(exchange: string): Promise<C> | undefined {
    const entry = this.#channels.get(exchange)
    this.#channels.delete(exchange)
    return entry?.opening
  }

  /** Removes all channels: their connection is gone. */
  reset(): void {
    this.#channels = new Map()
  }

  /** Closes the least recently used channel that may be closed, if there is no room for another one. */
  #makeRoom(): Promise<void> | undefined {
    if (this.#options.hasRoom(this.#channels.size + this.#closing)) return undefined
    for (const [exchange, { opening, opened }] of this.#channels) {
      if (exchange === '' || !this.#options.mayClose(opened)) continue
      this.#channels.delete(exchange)
      this.#closing++
      return opening
        .then(this.#options.close)
        .catch(() => undefined)
        .finally(() => this.#closing--)
    }
    return Promise.reject(channelsUsedUp())
  }
}
