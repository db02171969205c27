// A RabbitMQ with a short consumer timeout.

/** Options for startBroker(). RabbitMQ checks the timeout at each tick of a channel, so the tick is 1 s instead of 60 s. */
export const consumerTimeout = (seconds: number): { config: string; advanced: string } => ({
  config: `consumer_timeout = ${seconds * 1000}`,
  advanced: '[{rabbit, [{channel_tick_interval, 1000}]}].',
})
