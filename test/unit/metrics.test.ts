// The metrics: names that OpenMetrics takes, and sums over workers that are true.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { AggregatorRegistry, type Registry } from 'prom-client'
import { createMetrics } from '../../src/metrics.js'
import { createPushMetrics } from '../../src/push/metrics.js'

/** The registry of one process, with the gauges of an instance that knows three retry policies and seven delayed messages. */
function registryOf({ known = true, leases = 0 } = {}): Registry {
  const metrics = createMetrics()
  createPushMetrics(metrics.registry, () => [{ vhost: '/', subscription: 's', inFlight: 2, window: 4, paused: true }])
  metrics.observe({
    connections: () => [],
    nodes: () => [],
    leases: () => leases,
    waiters: () => 0,
    streams: () => 0,
    calls: () => 0,
    channels: () => 0,
    unconfirmedBytes: () => 0,
    remembered: () => 0,
    definitionsKnown: () => known,
    retryPolicies: () => 3,
    redrives: () => 0,
    logLinesDropped: () => 0,
    quarantines: () => [],
    delayed: () => [{ queue: 'gateway.delay.due', count: 7 }],
  })
  return metrics.registry
}

/** The sums over several workers, as the primary makes them. */
async function sums(...registries: Registry[]): Promise<string> {
  const each = await Promise.all(registries.map((registry) => registry.getMetricsAsJSON()))
  return AggregatorRegistry.aggregate(each as never).metrics()
}

describe('metrics', () => {
  it('no two metrics are one OpenMetrics family', async () => {
    // Of a counter, OpenMetrics takes `_total` off the name.
    const families = (await registryOf().getMetricsAsJSON()).map(({ name, type }) =>
      String(type) === 'counter' ? name.replace(/_total$/, '') : name,
    )
    assert.ok(families.length > 30)
    assert.deepEqual(
      families.filter((family, index) => families.indexOf(family) !== index),
      [],
    )
  })

  it('gauges that are the same at every instance are not summed over workers', async () => {
    const text = await sums(registryOf({ leases: 2 }), registryOf({ leases: 5 }))
    for (const line of [
      'gateway_definitions_known 1',
      'gateway_retry_policies 3',
      'gateway_delayed_messages{queue="gateway.delay.due"} 7',
      'gateway_push_paused{vhost="/",subscription="s"} 1',
      'gateway_push_in_flight{vhost="/",subscription="s"} 4',
      'gateway_leases_open 7',
    ])
      assert.ok(text.includes(`\n${line}\n`), line)
  })

  it('definitions count as known only if every worker knows them', async () => {
    assert.match(await sums(registryOf(), registryOf({ known: false })), /\ngateway_definitions_known 0\n/)
  })
})
