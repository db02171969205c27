// Channels by exchange. A publish to a missing exchange closes its channel, so that no two exchanges may share one.

/** A bounded map of channels, one for each exchange, opened on first use. The default exchange's channel is never evicted. */
export class ExchangeChannels<C> {
  readonly #max: number
  readonly #onEvicted: (channel: C) => void
  #channels = new Map<string, Promise<C>>()

  /**
   * @param max the most channels at a time
   * @param onEvicted called with the least recently opened channel when another one takes its place
   */
  constructor(max: number, onEvicted: (channel: C) => void) {
    this.#max = max
    this.#onEvicted = onEvicted
  }

  /**
   * The exchange's channel, opened if there is none.
   * @param open opens it; calls `closed` when the channel closes, whenever that is
   * @throws what `open` rejects with; the next call opens another one then
   */
  get(exchange: string, open: (closed: () => void) => Promise<C>): Promise<C> {
    return this.#channels.get(exchange) ?? this.replace(exchange, open)
  }

  /** Opens another channel in place of the exchange's present one, which the caller closes. */
  replace(exchange: string, open: (closed: () => void) => Promise<C>): Promise<C> {
    if (!this.#channels.has(exchange) && this.#channels.size >= this.#max) this.#evict()
    const channels = this.#channels
    let opening: Promise<C> | undefined // `open` may call `closed` before it returns
    const remove = () => {
      // Another channel may have taken its place.
      if (channels.get(exchange) === opening) channels.delete(exchange)
    }
    opening = open(remove)
    channels.set(exchange, opening)
    opening.catch(remove)
    return opening
  }

  /** Removes the exchange's channel, so that the next use opens another one. */
  remove(exchange: string): Promise<C> | undefined {
    const channel = this.#channels.get(exchange)
    this.#channels.delete(exchange)
    return channel
  }

  /** Removes all channels: their connection is gone. */
  reset(): void {
    this.#channels = new Map()
  }

  #evict(): void {
    const oldest = [...this.#channels.keys()].find((exchange) => exchange !== '')
    if (oldest === undefined) return
    this.remove(oldest)?.then(this.#onEvicted, () => undefined)
  }
}
