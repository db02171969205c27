// The metrics of each subscription. They are removed with it.

import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

const OUTCOMES = ['delivered', 'accepted', 'failed', 'slowed', 'given_up'] as const
export type PushOutcome = (typeof OUTCOMES)[number]

export interface PushGauge {
  vhost: string
  subscription: string
  inFlight: number
  window: number
  paused: boolean
}

const labelNames = ['vhost', 'subscription'] as const

/** Creates the metrics of subscriptions. @param read returns every subscription */
export function createPushMetrics(registry: Registry, read: () => PushGauge[]) {
  const registers = [registry]
  const deliveries = new Counter({
    name: 'gateway_push_deliveries_total',
    help: 'Deliveries to endpoints: delivered, accepted (202), failed, slowed (429, 503), and messages given up.',
    labelNames: [...labelNames, 'outcome'],
    registers,
  })
  const durations = new Histogram({
    name: 'gateway_push_duration_seconds',
    help: "Time from a delivery's connect to the end of its answer, or to its failure.",
    labelNames,
    buckets: [0.01, 0.05, 0.25, 1, 5, 15, 60],
    registers,
  })
  const gauge = (name: string, help: string, of: (one: PushGauge) => number, aggregator: 'sum' | 'max' = 'sum') =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      aggregator,
      collect() {
        this.reset()
        for (const one of read()) this.set({ vhost: one.vhost, subscription: one.subscription }, of(one))
      },
    })
  gauge('gateway_push_in_flight', 'Messages delivered and not answered, or accepted and not settled.', (one) => one.inFlight)
  gauge('gateway_push_window', 'How many deliveries may currently run at once.', (one) => one.window)
  gauge('gateway_push_paused', '1 where the subscription is paused.', (one) => Number(one.paused), 'max')

  return {
    ended: (vhost: string, subscription: string, outcome: PushOutcome) => deliveries.inc({ vhost, subscription, outcome }),
    took: (vhost: string, subscription: string, seconds: number) => durations.observe({ vhost, subscription }, seconds),
    forget(vhost: string, subscription: string): void {
      for (const outcome of OUTCOMES) deliveries.remove({ vhost, subscription, outcome })
      durations.remove({ vhost, subscription })
    },
  }
}

export type PushMetrics = ReturnType<typeof createPushMetrics>
