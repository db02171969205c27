// The environment in, one frozen Config out, or the list of everything that is wrong with it. Imports nothing that runs.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { parseDuration, parseSize } from './units.js'

interface Setting<T> {
  /** What stands in `.env.example` and docs/operations.md. */
  doc: string
  default: string
  /** Throws an Error whose message completes "SETTING …". */
  parse: (text: string) => T
  /** May also be given as `<NAME>_FILE`, the path of a file that holds it. Never logged. */
  secret?: true
}

const duration = (min: string, max: string) => (text: string) => {
  const value = parseDuration(text)
  if (value === undefined) throw new Error('is not a duration like 500ms, 30s, 5m or 1h')
  if (value < parseDuration(min)! || value > parseDuration(max)!) throw new Error(`must be between ${min} and ${max}`)
  return value
}

const integer = (min: number, max: number) => (text: string) => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max)) throw new Error(`must be a whole number between ${min} and ${max}`)
  return value
}

const size = (min: number, max: number) => (text: string) => {
  const value = parseSize(text)
  if (value === undefined) throw new Error('is not a size like 512KiB or 16MiB')
  if (value < min || value > max) throw new Error(`must be between ${min} and ${max} bytes`)
  return value
}

const oneOf =
  <const T extends string>(...choices: T[]) =>
  (text: string): T => {
    if (!choices.includes(text as T)) throw new Error(`must be one of ${choices.join(', ')}`)
    return text as T
  }

/** One broker address with its credentials, taken apart so that no URL with a password travels through the program. */
export interface BrokerAddress {
  protocol: 'amqp' | 'amqps'
  hostname: string
  port: number
  username: string
  password: string
  vhost: string
}

function brokerAddresses(text: string): BrokerAddress[] {
  const addresses = text
    .split(/[\s,]+/)
    .filter(Boolean)
    .map(brokerAddress)
  if (addresses.length === 0) throw new Error('is empty')
  const [first] = addresses
  if (addresses.some((other) => other.vhost !== first!.vhost || other.username !== first!.username)) {
    throw new Error('names several brokers: they must have the same user and vhost')
  }
  return addresses
}

function brokerAddress(text: string): BrokerAddress {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new Error('is not a URL like amqp://user:password@host:5672/vhost')
  }
  const protocol = url.protocol.slice(0, -1)
  if ((protocol !== 'amqp' && protocol !== 'amqps') || !url.hostname)
    throw new Error('must begin with amqp:// or amqps:// and a host')
  try {
    return {
      protocol,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port ? Number(url.port) : protocol === 'amqp' ? 5672 : 5671,
      username: url.username ? decodeURIComponent(url.username) : 'guest',
      password: url.username ? decodeURIComponent(url.password) : 'guest',
      vhost: decodeURIComponent(url.pathname.slice(1)) || '/',
    }
  } catch {
    throw new Error('has a broken percent-encoding')
  }
}

const host = (text: string) => {
  if (!isIP(text) && !/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text))
    throw new Error('is not a host name or an IP address')
  return text
}

const text = (value: string) => value
const MiB = 1024 ** 2

/** Every setting there is. `.env.example` and docs/operations.md list the same; a test holds them together. */
export const settings = {
  HOST: { doc: 'address to listen on', default: '127.0.0.1', parse: host },
  PORT: { doc: 'port to listen on; 0 picks a free one', default: '8080', parse: integer(0, 65535) },
  WORKERS: {
    doc: 'processes that share the port, each an instance of its own; more than one makes use of more cores',
    default: '1',
    parse: integer(1, 256),
  },
  AUTH: {
    doc: 'who may come in; none: everyone who can reach the port, so it must be written out when HOST is not loopback',
    default: '',
    parse: oneOf('', 'none'),
  },
  AMQP_URL: {
    doc: 'RabbitMQ, as amqp://user:password@host:port/vhost; several nodes of a cluster separated by commas',
    default: 'amqp://guest:guest@127.0.0.1:5672/',
    parse: brokerAddresses,
    secret: true,
  },
  AMQP_HEARTBEAT: {
    doc: 'AMQP heartbeat; a silent broker is given up after three',
    default: '10s',
    parse: duration('1s', '10m'),
  },
  AMQP_LEASE_CONNECTIONS: { doc: 'connections that receive and settle, per vhost', default: '2', parse: integer(1, 16) },
  AMQP_CHANNELS: {
    doc: 'channels on each of them: so many receives that wait or hold leases',
    default: '1900',
    parse: integer(1, 65000),
  },
  CONNECT_TIMEOUT: { doc: 'how long connecting to the broker may take', default: '5s', parse: duration('100ms', '1m') },
  BROKER_TIMEOUT: { doc: 'how long the broker may take to answer a call', default: '5s', parse: duration('100ms', '1m') },
  BROKER_CONSUMER_TIMEOUT: {
    doc: "the broker's own consumer_timeout; no lease outlives it less a minute",
    default: '30m',
    parse: duration('2s', '30d'),
  },
  PUBLISH_TIMEOUT: { doc: 'how long a publish waits for its confirm', default: '10s', parse: duration('100ms', '5m') },
  PUBLISH_BUFFER: {
    doc: 'bytes published and not yet confirmed, per vhost; above it 503',
    default: '64MiB',
    parse: size(MiB, 4096 * MiB),
  },
  MAX_MESSAGE_SIZE: { doc: 'largest message body', default: '16MiB', parse: size(1, 512 * MiB) },
  MAX_BATCH_SIZE: {
    doc: 'largest JSON or CloudEvents batch; NDJSON has no limit',
    default: '64MiB',
    parse: size(1024, 1024 * MiB),
  },
  MAX_RESPONSE_SIZE: {
    doc: 'bodies that one receive collects before it answers, whatever its max; at least one message is always answered',
    default: '64MiB',
    parse: size(1, 4096 * MiB),
  },
  MAX_LEASE: { doc: 'longest lease that a receive may ask for', default: '25m', parse: duration('1s', '30d') },
  MAX_LEASES: { doc: 'open leases; above it 429', default: '100000', parse: integer(1, 10_000_000) },
  MAX_WAITERS: { doc: 'receives that wait at the same time; above it 429', default: '3000', parse: integer(1, 1_000_000) },
  MAX_STREAMS: { doc: 'streams open to clients at the same time; above it 429', default: '1000', parse: integer(1, 1_000_000) },
  MAX_VHOSTS: { doc: 'vhosts in use at the same time', default: '32', parse: integer(1, 10_000) },
  VHOST_IDLE: { doc: "a vhost's connections are let go when unused for so long", default: '10m', parse: duration('1s', '1d') },
  REMEMBERED_SETTLES: {
    doc: 'settled leases remembered, for 5 minutes at most',
    default: '100000',
    parse: integer(0, 10_000_000),
  },
  LEASE_SECRET: {
    doc: 'signs lease ids, the same at every instance; made from the AMQP credentials when not set',
    default: '',
    parse: text,
    secret: true,
  },
  SHUTDOWN_DRAIN: { doc: 'how long leases may still be settled after SIGTERM', default: '20s', parse: duration('0ms', '1h') },
  LOG_LEVEL: {
    doc: 'fatal, error, warn, info, debug, trace or silent',
    default: 'info',
    parse: oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
  },
  LOG_REQUESTS: {
    doc: 'failed: log requests that ended in a 5xx; all: every request',
    default: 'failed',
    parse: oneOf('failed', 'all'),
  },
  DOCS: { doc: 'on or off: Swagger UI at /docs, /openapi.json', default: 'on', parse: oneOf('on', 'off') },
  METRICS: { doc: 'on or off: Prometheus metrics at /metrics', default: 'on', parse: oneOf('on', 'off') },
} as const satisfies Record<string, Setting<unknown>>

type Name = keyof typeof settings
export type Config = { readonly [N in Name]: ReturnType<(typeof settings)[N]['parse']> }

/** Everything wrong with the environment, a sentence each. */
export class ConfigError extends Error {
  readonly mistakes: string[]
  constructor(mistakes: string[]) {
    super(
      `The configuration has ${mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`}:\n  ${mistakes.join('\n  ')}`,
    )
    this.mistakes = mistakes
  }
}

/**
 * Reads and checks the whole environment.
 * @throws ConfigError that lists every mistake, likely misspellings of settings too.
 */
export function loadConfig(env: Record<string, string | undefined>): Config {
  const mistakes: string[] = []
  const values: Record<string, unknown> = {}
  for (const [name, setting] of Object.entries(settings) as [Name, Setting<unknown>][]) {
    try {
      const given = setting.secret ? secretText(name, env) : env[name]
      values[name] = setting.parse((given || setting.default).trim())
    } catch (error) {
      mistakes.push(`${name} ${(error as Error).message}`)
    }
  }
  mistakes.push(...misspellings(env))
  // Not written out, it follows a broker with a short consumer timeout.
  if (!env['MAX_LEASE'] && values['BROKER_CONSUMER_TIMEOUT'] !== undefined)
    values['MAX_LEASE'] = Math.min((values as Config).MAX_LEASE, longestLease(values as Config))
  mistakes.push(...contradictions(values as Partial<Config>))
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  return Object.freeze(values) as Config
}

function secretText(name: string, env: Record<string, string | undefined>): string | undefined {
  const file = env[`${name}_FILE`]
  if (!file) return env[name]
  if (env[name]) throw new Error(`and ${name}_FILE are both set: give one`)
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new Error(`can't be read from ${name}_FILE: ${(error as NodeJS.ErrnoException).code}`)
  }
}

function contradictions({ HOST, AUTH, MAX_LEASE, BROKER_CONSUMER_TIMEOUT }: Partial<Config>): string[] {
  const mistakes: string[] = []
  if (HOST !== undefined && !isLoopback(HOST) && AUTH === '') {
    mistakes.push(
      `HOST ${HOST} lets other machines in, and AUTH is not set: listen on 127.0.0.1, or write AUTH=none out if everyone who can reach the port may publish and receive`,
    )
  }
  if (MAX_LEASE !== undefined && BROKER_CONSUMER_TIMEOUT !== undefined && MAX_LEASE > longestLease({ BROKER_CONSUMER_TIMEOUT })) {
    mistakes.push('MAX_LEASE is longer than BROKER_CONSUMER_TIMEOUT less a minute, after which RabbitMQ takes the message back')
  }
  return mistakes
}

/** How long a lease may last in all its extensions: the broker's consumer timeout less a minute (of short ones, half). */
export function longestLease(config: Pick<Config, 'BROKER_CONSUMER_TIMEOUT'>): number {
  const timeout = config.BROKER_CONSUMER_TIMEOUT
  return timeout - Math.min(60_000, timeout / 2)
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '::1' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}

/** Names that look like settings and are none: one or two letters off, or with a prefix that none of ours has. */
function misspellings(env: Record<string, string | undefined>): string[] {
  const known = Object.entries(settings as Record<string, Setting<unknown>>).flatMap(([name, { secret }]) =>
    secret ? [name, `${name}_FILE`] : [name],
  )
  const mistakes: string[] = []
  for (const [name, value] of Object.entries(env)) {
    if (known.includes(name) || value === undefined) continue
    const bare = name.replace(/^(RABBITMQ_HTTP_)?GATEWAY_/, '')
    // Kubernetes puts GATEWAY_PORT=tcp://… and GATEWAY_SERVICE_HOST into every pod beside a service named "gateway".
    const fromKubernetes = /^(SERVICE_(HOST|PORT)|PORT_\d)/.test(bare) || /^(tcp|udp):/.test(value)
    if (fromKubernetes) continue
    const near = nearest(bare, known)
    if (near !== undefined && (bare !== name || near !== bare)) mistakes.push(`${name} is not a setting: did you mean ${near}?`)
    else if (bare !== name) mistakes.push(`${name} is not a setting`)
  }
  return mistakes
}

/** The setting that a name most likely means: itself, or one or two letters off, which only longer names can bear. */
function nearest(name: string, known: string[]): string | undefined {
  if (known.includes(name)) return name
  const near = known
    .map((one) => ({ one, letters: distance(one, name) }))
    .filter(({ one, letters }) => one.length > 5 && letters <= (one.length > 8 ? 2 : 1))
  return near.sort((a, b) => a.letters - b.letters)[0]?.one
}

/** Levenshtein distance, for two short names. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
