// Every metric of the gateway, in one Prometheus registry per app.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export type PublishOutcome = 'confirmed' | 'unroutable' | 'rejected' | 'refused' | 'unknown'
export type BatchStatus = 'confirmed' | 'unroutable' | 'rejected' | 'invalid' | 'unknown'
export type AckMode = 'manual' | 'auto' | 'requeue'
export type LeaseEnd = 'acked' | 'nacked' | 'expired' | 'lost' | 'unknown'

/** not_there: another instance has the address by now. */
export type InstanceRequestOutcome = 'answered' | 'unanswered' | 'unreachable' | 'not_there'
export type DelayOutcome = 'delivered' | 'postponed' | 'undeliverable'

/** rejected: to the dead-letter exchange of the queue, or dropped by RabbitMQ if it has none. */
export type RetryOutcome = 'again' | 'rejected' | 'discard'
export type RedriveOutcome = 'moved' | 'skipped' | 'failed'

export interface Gauges {
  /** Broker connections by role and state. */
  connections: () => { role: string; state: string; count: number }[]
  /** The node of each open connection, as host:port. */
  nodes: () => string[]
  leases: () => number
  waiters: () => number
  streams: () => number
  calls: () => number
  channels: () => number
  /** Bytes published and not confirmed. */
  unconfirmedBytes: () => number
  remembered: () => number
  /** Whether it is known what is defined. */
  definitionsKnown: () => boolean
  retryPolicies: () => number
  redrives: () => number
  /** Lines of the log that could not be written. */
  logLinesDropped: () => number
  /** By vhost and user: queues that have connections of their own, and those that are not tried at the moment. */
  quarantines: () => { separate: number; resting: number }[]
  /** Delayed messages, by the queue in which they wait. */
  delayed: () => readonly { queue: string; count: number }[]
}

/** Creates every metric of a process but those of subscriptions, and the registry that has them all. */
export function createMetrics() {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]

  const requests = new Histogram({
    name: 'gateway_http_request_duration_seconds',
    help: 'Time from a request to the end of its answer, by route and status. Long polls wait on purpose.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers,
  })
  const publishes = new Counter({
    name: 'gateway_publishes_total',
    help: 'Messages published, by what RabbitMQ said of them.',
    labelNames: ['outcome'] as const,
    registers,
  })
  const received = new Counter({
    name: 'gateway_messages_received_total',
    help: 'Messages answered to receives, by ack mode.',
    labelNames: ['ack'] as const,
    registers,
  })
  const receives = new Counter({
    name: 'gateway_receives_total',
    help: 'Receives answered, by ack mode and whether they had messages.',
    labelNames: ['ack', 'result'] as const,
    registers,
  })
  const settles = new Counter({
    name: 'gateway_leases_ended_total',
    help: 'Leases that ended, by how: acked, nacked, expired, lost (the queue or the connection went away), unknown.',
    labelNames: ['outcome'] as const,
    registers,
  })
  const forwards = new Counter({
    name: 'gateway_forwarded_settles_total',
    help: 'Settles forwarded to the instance that holds the lease, by result.',
    labelNames: ['result'] as const,
    registers,
  })

  const directly = new Counter({
    name: 'gateway_instance_requests_total',
    help: 'Requests to other instances at the addresses that they advertise, by how they ended.',
    labelNames: ['outcome'] as const,
    registers,
  })
  const batches = new Gauge({
    name: 'gateway_batches_open',
    help: 'Batches and NDJSON uploads under way.',
    registers,
  })
  const batched = new Counter({
    name: 'gateway_batch_messages_total',
    help: 'Messages of batches and NDJSON uploads, by the status of their result.',
    labelNames: ['status'] as const,
    registers,
  })
  const calls = new Counter({
    name: 'gateway_calls_total',
    help: 'Requests that were to be replied to, by how they ended.',
    labelNames: ['outcome'] as const,
    registers,
  })

  const delayed = new Counter({
    name: 'gateway_delayed_messages_due_total',
    help: 'Delayed messages: delivered, postponed (the target had no room) and undeliverable (it does not exist).',
    labelNames: ['outcome'] as const,
    registers,
  })

  const retries = new Counter({
    name: 'gateway_retries_total',
    help: 'Messages that came back to a queue with a retry policy: delivered again, rejected (dead-lettered, if the queue has a dead-letter exchange), discarded.',
    labelNames: ['outcome'] as const,
    registers,
  })
  const redriven = new Counter({
    name: 'gateway_redriven_messages_total',
    help: 'Messages that redrives looked at: moved, skipped (not asked for) and failed (they could not be moved, and stay).',
    labelNames: ['outcome'] as const,
    registers,
  })

  const receivedWith = (ack: AckMode) => ({
    some: receives.labels(ack, 'messages'),
    none: receives.labels(ack, 'empty'),
    messages: received.labels(ack),
  })
  // The label objects are looked up once per combination: prom-client hashes labels at every call otherwise.
  const byRequest = new Map<string, ReturnType<typeof requests.labels>>()
  const counters = {
    publish: new Map<string, Counter.Internal>(),
    settle: new Map<string, Counter.Internal>(),
    batched: new Map<string, Counter.Internal>(),
    received: { manual: receivedWith('manual'), auto: receivedWith('auto'), requeue: receivedWith('requeue') },
  }
  const count = (cache: Map<string, Counter.Internal>, counter: Counter<'outcome'> | Counter<'status'>, outcome: string) => {
    let child = cache.get(outcome)
    if (!child) {
      child = counter.labels(outcome)
      cache.set(outcome, child)
    }
    child.inc()
  }

  return {
    registry,
    request(method: string, route: string, status: number, seconds: number): void {
      const key = `${method} ${route} ${status}`
      let child = byRequest.get(key)
      if (!child) {
        child = requests.labels(method, route, String(status))
        byRequest.set(key, child)
      }
      child.observe(seconds)
    },
    published: (outcome: PublishOutcome) => count(counters.publish, publishes, outcome),
    settled: (outcome: LeaseEnd) => count(counters.settle, settles, outcome),
    received(ack: AckMode, messages: number): void {
      const counter = counters.received[ack]
      if (messages === 0) counter.none.inc()
      else {
        counter.some.inc()
        counter.messages.inc(messages)
      }
    },
    /** A batch begins, or ends. */
    batches: (change: 1 | -1) => batches.inc(change),
    batched: (status: BatchStatus) => count(counters.batched, batched, status),
    retried: (outcome: RetryOutcome) => retries.inc({ outcome }),
    delayed: (outcome: DelayOutcome) => delayed.inc({ outcome }),
    redriven: (outcome: RedriveOutcome, messages = 1) => redriven.inc({ outcome }, messages),
    called: (outcome: 'replied' | 'timeout' | 'failed') => calls.inc({ outcome }),
    forwarded: (result: 'answered' | 'gone' | 'unreachable', leases: number) => forwards.inc({ result }, leases),
    askedDirectly: (outcome: InstanceRequestOutcome) => directly.inc({ outcome }),
    /** Everything, in Prometheus' text format; of all workers, where there are several. */
    text: () => registry.metrics(),
    /** Registers the gauges that are read when Prometheus asks. */
    observe(gauges: Gauges): void {
      new Gauge({
        name: 'gateway_broker_connections',
        help: 'Connections to RabbitMQ, by role and state.',
        labelNames: ['role', 'state'] as const,
        registers,
        collect() {
          this.reset()
          for (const { role, state, count } of gauges.connections()) this.inc({ role, state }, count)
        },
      })
      new Gauge({
        name: 'gateway_broker_node_connections',
        help: 'Open connections to RabbitMQ, by the host and port of the node.',
        labelNames: ['node'] as const,
        registers,
        collect() {
          this.reset()
          for (const node of gauges.nodes()) this.inc({ node })
        },
      })
      new Gauge({
        name: 'gateway_delayed_messages',
        help: 'Delayed messages that wait, by queue; the same at every instance.',
        labelNames: ['queue'] as const,
        registers,
        aggregator: 'max',
        collect() {
          this.reset()
          for (const { queue, count } of gauges.delayed()) this.set({ queue }, count)
        },
      })
      new Counter({
        name: 'gateway_log_lines_dropped_total',
        help: 'Lines of the log that could not be written: a full disk, a terminal or reader that is gone or too slow.',
        registers,
        collect() {
          this.reset()
          this.inc(gauges.logLinesDropped())
        },
      })
      new Gauge({
        name: 'gateway_queues_quarantined',
        help: 'Queues that may end connections: separate (they have connections of their own), resting (not tried for a while).',
        labelNames: ['state'] as const,
        registers,
        collect() {
          const all = gauges.quarantines()
          for (const state of ['separate', 'resting'] as const) {
            this.set(
              { state },
              all.reduce((sum, counts) => sum + counts[state], 0),
            )
          }
        },
      })
      // With WORKERS the primary sums the gauges of all workers, except those that are the same at every instance.
      const gauge = (name: string, help: string, read: () => number, aggregator: 'sum' | 'max' | 'min' = 'sum') =>
        new Gauge({
          name,
          help,
          registers,
          aggregator,
          collect() {
            this.set(read())
          },
        })
      gauge('gateway_leases_open', 'Leases open on this instance.', gauges.leases)
      gauge('gateway_receives_waiting', 'Receives that wait for a message.', gauges.waiters)
      gauge('gateway_streams_open', 'Streams open to clients.', gauges.streams)
      gauge('gateway_redrives_running', 'Redrives that run on this instance.', gauges.redrives)
      gauge('gateway_calls_waiting', 'Calls that wait for their reply.', gauges.calls)
      gauge('gateway_broker_channels', 'AMQP channels open for receiving and for leases.', gauges.channels)
      gauge('gateway_publish_bytes_unconfirmed', 'Bytes published that wait for their confirm.', gauges.unconfirmedBytes)
      gauge(
        'gateway_definitions_known',
        '1 if the definitions are known, 0 until they have been read.',
        () => Number(gauges.definitionsKnown()),
        'min',
      )
      gauge('gateway_retry_policies', 'Queues with a retry policy; the same at every instance.', gauges.retryPolicies, 'max')
      gauge('gateway_settles_remembered', 'Settled leases remembered.', gauges.remembered)
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>
