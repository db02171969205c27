// A RabbitMQ that takes messages back after seconds.

/** Options for a broker. It looks at its consumers at every tick of a channel, which is a minute apart unless told otherwise. */
export const consumerTimeout = (seconds: number): { config: string; advanced: string } => ({
  config: `consumer_timeout = ${seconds * 1000}`,
  advanced: '[{rabbit, [{channel_tick_interval, 1000}]}].',
})
