// The table of all settings: name, description, default, and how its text is read.

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
  listOrNone,
  MiB,
  oneOf,
  optional,
  origin,
  proxy,
  publicUrl,
  range,
  requestRate,
  scopeAliases,
  secret,
  size,
  text,
} from './parsers.js'

export interface Setting<T> {
  /** What it does, for operators: in `.env.example` and docs/operations.md. */
  doc: string
  default: string
  /** Reads its text. @throws Error whose message completes "SETTING …" */
  parse: (text: string) => T
  /** May also be given as `<NAME>_FILE`, the path of a file that holds it. Never logged. */
  secret?: true
  /** Its name in earlier releases, still accepted. Not for secrets. */
  formerly?: string
}

/** Every setting. A test keeps `.env.example` and docs/operations.md the same as this table. */
export const settings = {
  HOST: { doc: 'address to listen on', default: '127.0.0.1', parse: host },
  PORT: { doc: 'port to listen on; 0 picks a free one', default: '8080', parse: integerBetween(0, 65535) },
  WORKERS: {
    doc: 'processes that share the port, to use more cores; each is an instance',
    default: '1',
    parse: integerBetween(1, 256),
  },
  AUTH: {
    doc: 'how clients authenticate: keys, jwt, or keys,jwt; broker for the users of RabbitMQ; none for no authentication, which must be written out unless HOST is loopback',
    default: '',
    parse: authModes,
  },
  API_KEYS_FILE: { doc: 'file of API keys (JSON); read again when it changes and on SIGHUP', default: '', parse: text },
  JWT_JWKS_URL: {
    doc: 'URL of the public keys that verify tokens (a JSON Web Key Set); read every 5 minutes',
    default: '',
    parse: httpUrl,
  },
  JWT_JWKS_FILE: {
    doc: 'file of these keys, instead of JWT_JWKS_URL; read again when it changes and on SIGHUP',
    default: '',
    parse: text,
  },
  JWT_ISSUER: { doc: 'required issuer of tokens (claim iss); any if not set', default: '', parse: text },
  JWT_AUDIENCE: { doc: 'required audience of tokens (claim aud); any if not set', default: '', parse: text },
  JWT_LEEWAY: {
    doc: 'how much the clocks of the issuer and the gateway may differ when a token begins or expires',
    default: '5s',
    parse: duration('0ms', '5m'),
  },
  JWT_SCOPE_CLAIMS: {
    doc: 'claims with the scopes of a token, separated by commas; a dot leads into a claim, as in resource_access.gateway.roles',
    default: 'scope',
    parse: list(text),
  },
  JWT_SCOPE_ALIASES: {
    doc: 'rights behind scopes or roles of other names, as in worker=read:%2F/jobs write:%2F/results; separated by semicolons',
    default: '',
    parse: scopeAliases,
  },
  JWT_SCOPE_PREFIX: {
    doc: 'prefix of the scopes that are meant for the gateway; if not set, JWT_AUDIENCE and a dot, or none',
    default: '',
    parse: optional(text),
  },
  JWT_HEADERS: {
    doc: 'message headers that the gateway sets from claims of the token, as in x-tenant=tenant; separated by commas',
    default: '',
    parse: list(claimHeader),
  },
  BROKER_USER_RECHECK_INTERVAL: {
    formerly: 'LOGIN_RECHECK',
    doc: 'with AUTH=broker: how long until RabbitMQ is asked again whether it still accepts a user',
    default: '4m',
    parse: duration('1s', '5m'),
  },
  LOOPBACK_USERS: {
    doc: 'with AUTH=broker: users who may only come from this machine, separated by commas, or none',
    default: 'guest',
    parse: listOrNone(text),
  },
  TLS_CERT_FILE: { doc: 'certificate for HTTPS, with its chain (PEM); plain HTTP if not set', default: '', parse: text },
  TLS_KEY_FILE: { doc: 'private key of TLS_CERT_FILE (PEM)', default: '', parse: text },
  TLS_CLIENT_CA_FILE: {
    doc: 'CA of client certificates (PEM); if set, every client must present a certificate (mutual TLS)',
    default: '',
    parse: text,
  },
  RATE_LIMIT: {
    doc: 'requests per identity, or per client address without AUTH, as in 100/s, 6000/m or 50/10s; no limit if not set',
    default: '',
    parse: optional(requestRate),
  },
  CORS_ORIGINS: {
    doc: 'origins whose web pages may use the gateway, separated by commas, or *; none if not set',
    default: '',
    parse: list(origin),
  },
  ALLOWED_HOSTS: {
    doc: 'host names that requests may use for the gateway beside localhost and IP addresses, separated by commas; if not set, none without AUTH, and any with it',
    default: '',
    parse: list(host),
  },
  TRUST_PROXY: {
    doc: 'proxies whose X-Forwarded and Forwarded headers are trusted: addresses and ranges, separated by commas; none if not set',
    default: '',
    parse: list(proxy),
  },
  PUBLIC_URL: {
    doc: 'URL or path under which clients reach the gateway, as in https://example.com/mq or /mq; X-Forwarded-Prefix of a trusted proxy if not set',
    default: '',
    parse: optional(publicUrl),
  },
  HEADERS_TIMEOUT: { doc: 'longest time to receive the headers of a request', default: '20s', parse: duration('100ms', '10m') },
  BODY_TIMEOUT: {
    doc: 'idle timeout of a request body (ten times as long for NDJSON), and of a response that is not read',
    default: '30s',
    parse: duration('100ms', '1h'),
  },
  KEEP_ALIVE_TIMEOUT: {
    doc: 'how long an idle connection of a client is kept open',
    default: '72s',
    parse: duration('1s', '1h'),
  },
  MAX_CONNECTIONS: {
    doc: 'open connections of clients; further ones are closed at once',
    default: '10000',
    parse: integerBetween(1, 1_000_000),
  },
  AMQP_URL: {
    doc: 'RabbitMQ, as in amqp://user:password@host:port/vhost; several nodes of a cluster separated by commas. A query may have heartbeat, connection_timeout, channel_max and frame_max. AMQP_URL_FILE is read again for each connection',
    default: 'amqp://guest:guest@127.0.0.1:5672/',
    parse: brokerAddresses,
    secret: true,
  },
  AMQP_TLS_CA_FILE: {
    doc: "CA of RabbitMQ's certificate (PEM); if not set, the CAs that Node.js trusts",
    default: '',
    parse: text,
  },
  AMQP_TLS_CERT_FILE: {
    doc: 'client certificate for RabbitMQ (PEM), if RabbitMQ requires one',
    default: '',
    parse: text,
  },
  AMQP_TLS_KEY_FILE: { doc: 'private key of AMQP_TLS_CERT_FILE (PEM)', default: '', parse: text },
  AMQP_HEARTBEAT: {
    doc: 'interval of AMQP heartbeats; the connection counts as lost after three are missed',
    default: '10s',
    parse: duration('1s', '10m'),
  },
  AMQP_LEASE_CONNECTIONS: { doc: 'connections per vhost that receive and settle', default: '2', parse: integerBetween(1, 16) },
  AMQP_CHANNELS: {
    doc: 'channels on each of these connections, which bound the receives that wait or hold leases',
    default: '1900',
    parse: integerBetween(1, 65000),
  },
  CONNECT_TIMEOUT: { doc: 'longest time to connect to RabbitMQ', default: '5s', parse: duration('100ms', '1m') },
  BROKER_TIMEOUT: { doc: 'longest time for RabbitMQ to answer a call', default: '5s', parse: duration('100ms', '1m') },
  BROKER_CONSUMER_TIMEOUT: {
    doc: "RabbitMQ's own consumer_timeout; leases end at least a minute earlier",
    default: '30m',
    parse: duration('2s', '30d'),
  },
  PUBLISH_TIMEOUT: { doc: 'longest time to wait for a publisher confirm', default: '10s', parse: duration('100ms', '5m') },
  PUBLISH_BUFFER: {
    doc: 'bytes per vhost that are published and not yet confirmed; beyond it publishes get 503',
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
    doc: 'bytes of message bodies after which a receive stops collecting; it always gets at least one message',
    default: '64MiB',
    parse: size(1, 4096 * MiB),
  },
  MAX_RESPONSE_HEADERS: {
    doc: 'headers of a raw response in all, in bytes; a message with more is 406. By default what nginx takes from a server',
    default: '4KiB',
    parse: size(1024, 64 * 1024),
  },
  MAX_LEASE: { doc: 'longest lease that a receive may ask for', default: '25m', parse: duration('1s', '30d') },
  MAX_LEASES: { doc: 'open leases; beyond it receives get 429', default: '100000', parse: integerBetween(1, 10_000_000) },
  MAX_WAITERS: {
    doc: 'receives that wait at the same time; beyond it receives get 429',
    default: '3000',
    parse: integerBetween(1, 1_000_000),
  },
  MAX_STREAMS: {
    doc: 'open streams; beyond it streams get 429',
    default: '1000',
    parse: integerBetween(1, 1_000_000),
  },
  MAX_VHOSTS: {
    doc: 'vhosts in use at the same time; with AUTH=broker, each vhost of each user counts',
    default: '32',
    parse: integerBetween(1, 10_000),
  },
  VHOST_IDLE: { doc: 'how long the connections of an unused vhost are kept open', default: '10m', parse: duration('1s', '1d') },
  MAX_REMEMBERED_SETTLES: {
    formerly: 'REMEMBERED_SETTLES',
    doc: 'settled leases that are remembered, each for 5 minutes at most',
    default: '100000',
    parse: integerBetween(0, 10_000_000),
  },
  LEASE_SECRET: {
    doc: 'secret that signs lease ids, the same at every instance, at least 16 bytes; derived from the AMQP credentials if not set, needed with ADVERTISE_URL',
    default: '',
    parse: secret,
    secret: true,
  },
  ADVERTISE_URL: {
    doc: 'URL at which other instances reach this one to settle its leases, as in http://10.0.0.5:8080; if not set, they go through RabbitMQ',
    default: '',
    parse: optional(instanceUrl),
  },
  ADVERTISE_SECRET: {
    doc: 'secret that signs the requests between instances, the same at every instance, at least 16 bytes',
    default: '',
    parse: secret,
    secret: true,
  },
  ADVERTISE_CA_FILE: {
    doc: 'CA of the certificates of other instances (PEM); if not set, the CAs that Node.js trusts',
    default: '',
    parse: text,
  },
  SHUTDOWN_DELAY: {
    doc: 'how long the gateway goes on serving after SIGTERM although it is not ready, so that load balancers notice; 0s for none',
    default: '5s',
    parse: duration('0ms', '1h'),
  },
  SHUTDOWN_DRAIN: { doc: 'how long leases may still be settled after SIGTERM', default: '20s', parse: duration('0ms', '1h') },
  PUSH_ALLOWED_NETWORKS: {
    formerly: 'PUSH_ALLOW',
    doc: 'addresses and ranges that subscriptions may call although they are not public, as in 10.1.0.0/16; separated by commas, none if not set',
    default: '',
    parse: list(range),
  },
  LOG_LEVEL: {
    doc: 'fatal, error, warn, info, debug, trace or silent',
    default: 'info',
    parse: oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
  },
  LOG_REQUESTS: {
    doc: 'failed logs requests that end in a 5xx; all logs every request',
    default: 'failed',
    parse: oneOf('failed', 'all'),
  },
  OPERATIONS_PORT: {
    doc: 'separate port for health and metrics; if set, metrics are served there only',
    default: '',
    parse: optional(integerBetween(0, 65535)),
  },
  OPERATIONS_HOST: { doc: 'address to listen on at OPERATIONS_PORT; HOST if not set', default: '', parse: optional(host) },
  DOCS: { doc: 'on or off: Swagger UI at /docs, and /openapi.json', default: 'on', parse: oneOf('on', 'off') },
  METRICS: { doc: 'on or off: Prometheus metrics at /metrics', default: 'on', parse: oneOf('on', 'off') },
} as const satisfies Record<string, Setting<unknown>>

export type SettingName = keyof typeof settings
export type Config = { readonly [N in SettingName]: ReturnType<(typeof settings)[N]['parse']> }
