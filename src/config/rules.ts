// Settings that are right one by one and wrong together.

import { isLoopback } from './parsers.js'
import type { Config } from './settings.js'

/** A sentence where something is wrong. Of the settings only those are there that could be read. */
type Rule = (config: Partial<Config>) => string | false | undefined

const rules: Rule[] = [
  ({ HOST, AUTH }) =>
    HOST !== undefined &&
    !isLoopback(HOST) &&
    AUTH?.length === 0 &&
    `HOST ${HOST} lets other machines in, and AUTH is not set: set AUTH=keys to ask everyone for a key, or listen on 127.0.0.1, or write AUTH=none out if everyone who can reach the port may publish and receive`,
  ({ AUTH, API_KEYS_FILE }) => AUTH?.includes('keys') && API_KEYS_FILE === '' && 'API_KEYS_FILE is missing: AUTH=keys needs it',
  ({ AUTH, API_KEYS_FILE }) =>
    AUTH && !AUTH.includes('keys') && API_KEYS_FILE && 'API_KEYS_FILE is set, and nobody is asked for a key: set AUTH=keys',
  ({ AUTH, JWT_JWKS_URL, JWT_JWKS_FILE }) =>
    AUTH?.includes('jwt') &&
    Boolean(JWT_JWKS_URL) === Boolean(JWT_JWKS_FILE) &&
    'JWT_JWKS_URL or JWT_JWKS_FILE has to be set, one of the two: AUTH=jwt needs the keys that tokens are signed with',
  ({ AUTH, JWT_JWKS_URL, JWT_JWKS_FILE }) =>
    AUTH &&
    !AUTH.includes('jwt') &&
    (JWT_JWKS_URL || JWT_JWKS_FILE) &&
    'JWT_JWKS_URL or JWT_JWKS_FILE is set, and nobody is asked for a token: set AUTH=jwt',
  ({ AUTH, CORS_ORIGINS }) =>
    AUTH &&
    isOpen(AUTH) &&
    CORS_ORIGINS?.includes('*') &&
    'CORS_ORIGINS is *, and nobody is asked who he is: every page that anybody here looks at could publish and receive. Name the origins',
  ({ TLS_CERT_FILE, TLS_KEY_FILE }) => TLS_CERT_FILE && !TLS_KEY_FILE && 'TLS_KEY_FILE is missing: the key of TLS_CERT_FILE',
  ({ TLS_CERT_FILE, TLS_KEY_FILE }) =>
    TLS_KEY_FILE && !TLS_CERT_FILE && 'TLS_CERT_FILE is missing: the certificate of TLS_KEY_FILE',
  ({ TLS_CERT_FILE, TLS_CLIENT_CA_FILE }) =>
    TLS_CLIENT_CA_FILE &&
    !TLS_CERT_FILE &&
    'TLS_CLIENT_CA_FILE is set, and TLS_CERT_FILE is not: clients show certificates over TLS only',
  ({ AMQP_TLS_CERT_FILE, AMQP_TLS_KEY_FILE }) =>
    Boolean(AMQP_TLS_CERT_FILE) !== Boolean(AMQP_TLS_KEY_FILE) &&
    'AMQP_TLS_CERT_FILE and AMQP_TLS_KEY_FILE are for each other: one is missing',
  ({ AMQP_URL, AMQP_TLS_CA_FILE, AMQP_TLS_CERT_FILE }) =>
    AMQP_URL?.every(({ protocol }) => protocol === 'amqp') &&
    (AMQP_TLS_CA_FILE || AMQP_TLS_CERT_FILE) &&
    'AMQP_TLS_CA_FILE or AMQP_TLS_CERT_FILE is set, and AMQP_URL speaks no TLS: it would begin with amqps://',
  ({ PORT, OPERATIONS_PORT }) =>
    PORT !== 0 && PORT !== undefined && PORT === OPERATIONS_PORT && 'OPERATIONS_PORT is the same as PORT: give it one of its own',
  ({ OPERATIONS_HOST, OPERATIONS_PORT }) =>
    OPERATIONS_HOST && OPERATIONS_PORT === undefined && 'OPERATIONS_HOST is set, and OPERATIONS_PORT is not',
  ({ ADVERTISE_URL, ADVERTISE_SECRET }) =>
    ADVERTISE_URL &&
    ADVERTISE_SECRET === '' &&
    'ADVERTISE_SECRET is missing: ADVERTISE_URL needs it, or anybody could pass for an instance',
  // Malformed it is not there, and a mistake already.
  (config) =>
    'ADVERTISE_URL' in config &&
    config.ADVERTISE_URL === undefined &&
    (config.ADVERTISE_SECRET || config.ADVERTISE_CA_FILE) &&
    'ADVERTISE_URL is missing: ADVERTISE_SECRET and ADVERTISE_CA_FILE are for it',
  ({ ADVERTISE_URL, WORKERS }) =>
    ADVERTISE_URL &&
    WORKERS !== undefined &&
    WORKERS > 1 &&
    'ADVERTISE_URL leads to one instance, and WORKERS share a port: run as many instances with a port each instead',
  ({ MAX_LEASE, BROKER_CONSUMER_TIMEOUT }) =>
    MAX_LEASE !== undefined &&
    BROKER_CONSUMER_TIMEOUT !== undefined &&
    MAX_LEASE > longestLease({ BROKER_CONSUMER_TIMEOUT }) &&
    'MAX_LEASE is longer than BROKER_CONSUMER_TIMEOUT less a minute, after which RabbitMQ takes the message back',
]

/** @param config what could be read of it; the rest is a mistake already */
export function brokenRules(config: Partial<Config>): string[] {
  return rules.map((rule) => rule(config) || '').filter((sentence) => sentence !== '')
}

/** Whether nobody is asked who he is. */
export const isOpen = (AUTH: Config['AUTH']): boolean => AUTH.length === 0 || AUTH.includes('none')

/** Whether it names files that are read again on SIGHUP. Elsewhere that means what it always meant: the terminal is gone. */
export const rereadsFiles = (config: Config): boolean => !isOpen(config.AUTH) || config.TLS_CERT_FILE !== ''

/** How long a lease may last in all its extensions: the broker's consumer timeout less a minute (of short ones, half). */
export function longestLease(config: Pick<Config, 'BROKER_CONSUMER_TIMEOUT'>): number {
  const timeout = config.BROKER_CONSUMER_TIMEOUT
  return timeout - Math.min(60_000, timeout / 2)
}
