// Everything behind the routes, put together once per app.

import { Authentication } from './access/authentication.js'
import { Tickets } from './access/tickets.js'
import { Vhosts } from './amqp/vhosts.js'
import { waitQuietly } from './amqp/wire/deadline.js'
import { brokerCertificates } from './config/certificates.js'
import type { Config } from './config/index.js'
import { Definitions } from './definitions/definitions.js'
import { Delays } from './delay/delays.js'
import { Instances } from './instances/client.js'
import { Leases } from './leases/leases.js'
import type { Log } from './lib/log.js'
import { droppedLogLines } from './lib/log-output.js'
import { createMetrics, type Metrics } from './metrics.js'
import { Push } from './push/push.js'
import { Receiver } from './receive/receiver.js'
import { Streams } from './receive/stream.js'
import { Redrives } from './redrive/redrives.js'
import { RetryPolicies } from './retry/policies.js'

export interface Services {
  readonly config: Config
  readonly log: Log
  readonly metrics: Metrics
  readonly authentication: Authentication
  /** Tickets for streams of clients that can send no credentials. */
  readonly tickets: Tickets
  readonly vhosts: Vhosts
  readonly definitions: Definitions
  readonly policies: RetryPolicies
  readonly delays: Delays
  readonly redrives: Redrives
  readonly leases: Leases
  /** The others, over HTTP; undefined where this one advertises no address. */
  readonly instances: Instances | undefined
  readonly receiver: Receiver
  readonly streams: Streams
  readonly push: Push
  /** Why the gateway should get no traffic; undefined when it is ready. */
  notReady: () => string | undefined
  /** Whether the process ends soon: not ready, and no connection is kept for another request. */
  ending: boolean
  draining: boolean
  /** From now on: not ready, no receives; waiting ones are answered with what they have. Leases may still be settled. */
  drain: () => void
  /** Gives every lease back and closes all connections, each step within its deadline. */
  close: () => Promise<void>
}

/** @throws ConfigError where files that the configuration names have mistakes */
export function createServices(config: Config, log: Log): Services {
  brokerCertificates(config)
  if (config.LEASE_SECRET === '')
    log.warn({}, 'LEASE_SECRET is not set: the key of lease ids is derived from the credentials in AMQP_URL')
  const authentication = new Authentication({ config, log })
  const tickets = new Tickets(config)
  const metrics = createMetrics()
  const vhosts = new Vhosts({ config, log, metrics })
  authentication.onUserGone((login) => vhosts.drop(login))
  const definitions = new Definitions({ config, log, vhosts })
  const { ADVERTISE_URL: url } = config
  const { instance } = vhosts
  const instances = url === undefined ? undefined : new Instances({ config, log, metrics, definitions, instance, url })
  const policies = new RetryPolicies(definitions)
  const delays = new Delays({ log, metrics, vhosts })
  const leases = new Leases({ config, log, metrics, vhosts, policies, delays, instances })
  vhosts.serve((command) => leases.runEncoded(command))
  const redrives = new Redrives({ config, log, metrics, vhosts, definitions })
  const receiver = new Receiver({ config, metrics, vhosts, leases })
  const streams = new Streams({ config, metrics, vhosts, leases })
  const push = new Push({ config, log, metrics, definitions, leases, receiver })
  const connections = () => vhosts.all().flatMap((vhost) => vhost.connections())

  metrics.observe({
    connections: () => connections().map(({ role, connection }) => ({ role, state: connection.state, count: 1 })),
    nodes: () => connections().flatMap(({ connection }) => connection.node || []),
    leases: () => leases.open,
    waiters: () => receiver.waiting,
    streams: () => streams.open,
    quarantines: () => vhosts.all().map(({ quarantine }) => quarantine.counts),
    redrives: () => redrives.running,
    calls: () => vhosts.all().reduce((sum, { rpc }) => sum + rpc.pending, 0),
    channels: () =>
      vhosts
        .all()
        .flatMap((vhost) => vhost.receivingConnections)
        .reduce((sum, { channels }) => sum + channels, 0),
    unconfirmedBytes: () => vhosts.all().reduce((sum, { publisher }) => sum + publisher.unconfirmedBytes, 0),
    remembered: () => leases.rememberedCount,
    definitionsKnown: () => definitions.known,
    retryPolicies: () => policies.count,
    delayed: () => delays.waiting,
    logLinesDropped: droppedLogLines,
  })

  const services: Services = {
    config,
    log,
    metrics,
    authentication,
    tickets,
    vhosts,
    definitions,
    policies,
    delays,
    redrives,
    leases,
    instances,
    receiver,
    streams,
    push,
    ending: false,
    draining: false,
    notReady: () => (services.ending ? 'shutting down' : (brokerReason(vhosts) ?? authentication.notReady)),
    drain: () => {
      services.ending = true
      services.draining = true
      receiver.drain()
      streams.drain()
      void redrives.close()
    },
    close: async () => {
      authentication.close()
      instances?.close()
      await waitQuietly(config.BROKER_TIMEOUT, push.close())
      await waitQuietly(config.BROKER_TIMEOUT, leases.close())
      await waitQuietly(config.PUBLISH_TIMEOUT + config.BROKER_TIMEOUT, redrives.close())
      definitions.close()
      await waitQuietly(config.BROKER_TIMEOUT, delays.close())
      await waitQuietly(config.BROKER_TIMEOUT + 2000, vhosts.close())
    },
  }
  return services
}

/** In fixed words, since readiness is open to everyone. The log has the details. */
function brokerReason(vhosts: Vhosts): string | undefined {
  const { publisher, leaseConnections, topology } = vhosts.default
  if (publisher.stalled) return 'the broker does not answer'
  if (publisher.connection.state !== 'up') return `the broker connection that publishes is ${publisher.connection.state}`
  const lease = leaseConnections.find(({ connection }) => connection.state === 'up')
  if (!lease) return `the broker connection that receives is ${leaseConnections[0]!.connection.state}`
  return topology.connection.state === 'up' ? undefined : `the broker connection that declares is ${topology.connection.state}`
}
