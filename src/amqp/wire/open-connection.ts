// Opens connections to RabbitMQ, and reaches what amqplib keeps to itself: the socket, and what the server says of itself.

import type { Socket } from 'node:net'
import { hostname } from 'node:os'
import { brokerCertificates } from '../../config/certificates.js'
import { type BrokerAddress, type Config, currentBrokerAddresses } from '../../config/index.js'
import { type ChannelModel, connect } from './amqplib.js'
import { waitQuietly } from './deadline.js'
import { connectToAny, type NodeConnection } from './nodes.js'

interface Credentials {
  readonly username: string
  readonly password: string
}

/** Connects to a node that lets us in: a random one of AMQP_URL, or any other. @throws Error if none does */
export function openConnection(
  config: Config,
  { vhost, login, purpose, attempt = 0 }: { vhost: string; login: Credentials | undefined; purpose: string; attempt?: number },
): Promise<NodeConnection> {
  const name = `rabbitmq-http-gateway ${hostname()}:${process.pid} ${purpose}`
  const open = (address: BrokerAddress) => openNode(config, { ...address, ...login }, vhost, name)
  return connectToAny(currentBrokerAddresses(config), firstNode(attempt), open, discard)
}

async function openNode(config: Config, address: BrokerAddress, vhost: string, name: string): Promise<ChannelModel> {
  return connect(
    {
      protocol: address.protocol,
      hostname: address.hostname,
      port: address.port,
      username: address.username,
      password: address.password,
      vhost: encodeURIComponent(vhost),
      heartbeat: Math.round((address.heartbeat ?? config.AMQP_HEARTBEAT) / 1000),
      ...(address.channelMax !== undefined && { channelMax: address.channelMax }),
      ...(address.frameMax !== undefined && { frameMax: address.frameMax }),
    },
    {
      // Read for each connection, since certificates are renewed while the gateway runs.
      ...(address.protocol === 'amqps' && brokerCertificates(config)),
      timeout: address.connectTimeout ?? config.CONNECT_TIMEOUT,
      noDelay: true,
      keepAlive: true,
      clientProperties: { connection_name: name },
    },
  )
}

/** Ends a connection that nobody uses. */
export function discard(model: ChannelModel): void {
  model.on('error', () => undefined)
  void waitQuietly(2000, model.close()).then(() => socketOf(model)?.destroy())
}

// A random node first, so that instances spread over the cluster; another one after a connection was lost or its set-up failed.
let start = Math.floor(Math.random() * 1000)
function firstNode(attempt: number): number {
  if (attempt === 0) start = Math.floor(Math.random() * 1000)
  return start + attempt
}

/** amqplib closes a connection only by a handshake. A frozen connection needs its socket destroyed. */
export function socketOf(model: ChannelModel): Socket | undefined {
  return (model.connection as unknown as { stream?: Socket }).stream
}

/** Sends what all channels write in one turn of the event loop in one system call, rather than one for each channel. */
export function gatherWrites(socket: Socket | undefined): void {
  if (!socket) return
  const write = socket.write
  let gathering = false
  socket.write = ((...args: Parameters<typeof write>) => {
    if (!gathering) {
      gathering = true
      socket.cork()
      process.nextTick(() => {
        gathering = false
        socket.uncork()
      })
    }
    return write.apply(socket, args)
  }) as typeof write
}

export function serverVersion(model: ChannelModel): string {
  const properties = (model.connection as unknown as { serverProperties?: { version?: unknown } }).serverProperties
  return String(properties?.version ?? '')
}
