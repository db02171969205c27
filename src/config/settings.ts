// The table of all settings: name, meaning, default, and how its text is read.

import {
  authModes,
  brokerAddresses,
  claimHeader,
  duration,
  host,
  httpUrl,
  instanceUrl,
  integerBetween,
  list,
  MiB,
  oneOf,
  optional,
  origin,
  proxy,
  range,
  requestRate,
  size,
  text,
} from './parsers.js'

export interface Setting<T> {
  /** What stands in `.env.example` and docs/operations.md. */
  doc: string
  default: string
  /** Throws an Error whose message completes "SETTING …". */
  parse: (text: string) => T
  /** May also be given as `<NAME>_FILE`, the path of a file that holds it. Never logged. */
  secret?: true
}

/** Every setting there is. `.env.example` and docs/operations.md list the same; a test holds them together. */
export const settings = {
  HOST: { doc: 'address to listen on', default: '127.0.0.1', parse: host },
  PORT: { doc: 'port to listen on; 0 picks a free one', default: '8080', parse: integerBetween(0, 65535) },
  WORKERS: {
    doc: 'processes that share the port, each an instance of its own; more than one makes use of more cores',
    default: '1',
    parse: integerBetween(1, 256),
  },
  AUTH: {
    doc: 'who may come in: keys, jwt or keys,jwt; broker, which is the users of RabbitMQ; or none, which is everyone who can reach the port and has to be written out when HOST is not loopback',
    default: '',
    parse: authModes,
  },
  API_KEYS_FILE: { doc: 'the API keys, as JSON; read again on SIGHUP and when it changes', default: '', parse: text },
  JWT_JWKS_URL: {
    doc: 'where the public keys are that tokens are signed with (a JSON Web Key Set)',
    default: '',
    parse: httpUrl,
  },
  JWT_JWKS_FILE: { doc: 'or a file of them; read again on SIGHUP and when it changes', default: '', parse: text },
  JWT_ISSUER: { doc: 'who has to have issued a token (its claim iss)', default: '', parse: text },
  JWT_AUDIENCE: { doc: 'for whom a token has to be (its claim aud)', default: '', parse: text },
  JWT_SCOPE_PREFIX: {
    doc: 'what stands before the scopes that are meant for the gateway; when not set, JWT_AUDIENCE and a dot, or nothing',
    default: '',
    parse: optional(text),
  },
  JWT_HEADERS: {
    doc: 'headers that the gateway sets on every message of a token, made of its claims, as in x-tenant=tenant; separated by commas',
    default: '',
    parse: list(claimHeader),
  },
  LOGIN_RECHECK: {
    doc: 'with AUTH=broker, after how long RabbitMQ is asked again whether it still knows a user',
    default: '4m',
    parse: duration('1s', '5m'),
  },
  TLS_CERT_FILE: { doc: 'certificate, with its chain, to speak HTTPS with (PEM); HTTP when not set', default: '', parse: text },
  TLS_KEY_FILE: { doc: 'its private key (PEM)', default: '', parse: text },
  TLS_CLIENT_CA_FILE: {
    doc: 'authority of client certificates (PEM): where it is set, nobody comes in without one',
    default: '',
    parse: text,
  },
  RATE_LIMIT: {
    doc: 'requests of one identity, or of one address where nobody is asked who he is, as in 100/s, 6000/m or 50/10s; no limit when not set',
    default: '',
    parse: optional(requestRate),
  },
  CORS_ORIGINS: {
    doc: 'origins whose pages may use the gateway, separated by commas, or *; none when not set',
    default: '',
    parse: list(origin),
  },
  ALLOWED_HOSTS: {
    doc: 'names that the gateway is called by, separated by commas; checked where it is set, and of browsers on loopback without AUTH, where localhost and addresses are known anyway',
    default: '',
    parse: list(host),
  },
  TRUST_PROXY: {
    doc: 'proxies whose X-Forwarded headers count, as addresses and ranges separated by commas; none when not set',
    default: '',
    parse: list(proxy),
  },
  HEADERS_TIMEOUT: { doc: "how long a request's headers may take", default: '20s', parse: duration('100ms', '10m') },
  BODY_TIMEOUT: {
    doc: 'how long a body may stand still, one of lines ten times as long, and how long an answer may wait to be read',
    default: '30s',
    parse: duration('100ms', '1h'),
  },
  KEEP_ALIVE_TIMEOUT: {
    doc: 'how long a connection is kept that nobody uses',
    default: '72s',
    parse: duration('1s', '1h'),
  },
  MAX_CONNECTIONS: {
    doc: 'open connections from clients; more are closed at once',
    default: '10000',
    parse: integerBetween(1, 1_000_000),
  },
  AMQP_URL: {
    doc: 'RabbitMQ, as amqp://user:password@host:port/vhost; several nodes of a cluster separated by commas',
    default: 'amqp://guest:guest@127.0.0.1:5672/',
    parse: brokerAddresses,
    secret: true,
  },
  AMQP_TLS_CA_FILE: {
    doc: "the authority that RabbitMQ's certificate is from, where it is none of the usual ones (PEM)",
    default: '',
    parse: text,
  },
  AMQP_TLS_CERT_FILE: {
    doc: "the gateway's own certificate for RabbitMQ, where that asks for one (PEM)",
    default: '',
    parse: text,
  },
  AMQP_TLS_KEY_FILE: { doc: 'its private key (PEM)', default: '', parse: text },
  AMQP_HEARTBEAT: {
    doc: 'AMQP heartbeat; a silent broker is given up after three',
    default: '10s',
    parse: duration('1s', '10m'),
  },
  AMQP_LEASE_CONNECTIONS: { doc: 'connections that receive and settle, per vhost', default: '2', parse: integerBetween(1, 16) },
  AMQP_CHANNELS: {
    doc: 'channels on each of them: so many receives that wait or hold leases',
    default: '1900',
    parse: integerBetween(1, 65000),
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
  MAX_LEASES: { doc: 'open leases; above it 429', default: '100000', parse: integerBetween(1, 10_000_000) },
  MAX_WAITERS: { doc: 'receives that wait at the same time; above it 429', default: '3000', parse: integerBetween(1, 1_000_000) },
  MAX_STREAMS: {
    doc: 'streams open to clients at the same time; above it 429',
    default: '1000',
    parse: integerBetween(1, 1_000_000),
  },
  MAX_VHOSTS: {
    doc: 'vhosts in use at the same time, with AUTH=broker those of each user',
    default: '32',
    parse: integerBetween(1, 10_000),
  },
  VHOST_IDLE: { doc: "a vhost's connections are let go when unused for so long", default: '10m', parse: duration('1s', '1d') },
  REMEMBERED_SETTLES: {
    doc: 'settled leases remembered, for 5 minutes at most',
    default: '100000',
    parse: integerBetween(0, 10_000_000),
  },
  LEASE_SECRET: {
    doc: 'signs lease ids, the same at every instance; made from the AMQP credentials when not set',
    default: '',
    parse: text,
    secret: true,
  },
  ADVERTISE_URL: {
    doc: 'where other instances reach this one over HTTP, as in http://10.0.0.5:8080, to settle its leases there; through RabbitMQ when not set',
    default: '',
    parse: optional(instanceUrl),
  },
  ADVERTISE_SECRET: {
    doc: 'signs what instances say to each other there; the same at every instance',
    default: '',
    parse: text,
    secret: true,
  },
  ADVERTISE_CA_FILE: {
    doc: 'the authority that the certificates of other instances are from, where it is none of the usual ones (PEM)',
    default: '',
    parse: text,
  },
  SHUTDOWN_DRAIN: { doc: 'how long leases may still be settled after SIGTERM', default: '20s', parse: duration('0ms', '1h') },
  PUSH_ALLOW: {
    doc: 'addresses and ranges that subscriptions may call though they are not public, as in 10.1.0.0/16; separated by commas, none when not set',
    default: '',
    parse: list(range),
  },
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
  OPERATIONS_PORT: {
    doc: 'port for health and metrics alone; the metrics are then nowhere else',
    default: '',
    parse: optional(integerBetween(0, 65535)),
  },
  OPERATIONS_HOST: { doc: 'address for it; HOST when not set', default: '', parse: optional(host) },
  DOCS: { doc: 'on or off: Swagger UI at /docs, /openapi.json', default: 'on', parse: oneOf('on', 'off') },
  METRICS: { doc: 'on or off: Prometheus metrics at /metrics', default: 'on', parse: oneOf('on', 'off') },
} as const satisfies Record<string, Setting<unknown>>

export type SettingName = keyof typeof settings
export type Config = { readonly [N in SettingName]: ReturnType<(typeof settings)[N]['parse']> }
