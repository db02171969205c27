// Rules for settings that are valid one by one and wrong in combination.

import { isOpen, longestLease } from './derived.js'
import { isLoopback } from './parsers.js'
import type { Config } from './settings.js'

/** Gives a sentence if it is broken. Settings that could not be read are missing. */
type Rule = (config: Partial<Config>) => string | false | undefined

const rules: Rule[] = [
  ({ HOST, AUTH }) =>
    HOST !== undefined &&
    !isLoopback(HOST) &&
    AUTH?.length === 0 &&
    `HOST ${HOST} is reachable from other machines, and AUTH is not set: set AUTH=keys so that clients need a key, listen on 127.0.0.1, or set AUTH=none if everyone who can reach the port may publish and receive`,
  ({ AUTH, API_KEYS_FILE }) => AUTH?.includes('keys') && API_KEYS_FILE === '' && 'API_KEYS_FILE is missing: AUTH=keys needs it',
  ({ AUTH, API_KEYS_FILE }) =>
    AUTH && !AUTH.includes('keys') && API_KEYS_FILE && 'API_KEYS_FILE is set, but AUTH does not include keys: set AUTH=keys',
  ({ AUTH, JWT_JWKS_URL, JWT_JWKS_FILE }) =>
    AUTH?.includes('jwt') &&
    JWT_JWKS_URL !== undefined &&
    Boolean(JWT_JWKS_URL) === Boolean(JWT_JWKS_FILE) &&
    'JWT_JWKS_URL or JWT_JWKS_FILE must be set, one of the two: AUTH=jwt needs the public keys that verify tokens',
  ({ AUTH, JWT_JWKS_URL, JWT_JWKS_FILE }) =>
    AUTH &&
    !AUTH.includes('jwt') &&
    (JWT_JWKS_URL || JWT_JWKS_FILE) &&
    'JWT_JWKS_URL or JWT_JWKS_FILE is set, but AUTH does not include jwt: set AUTH=jwt',
  ({ AUTH, CORS_ORIGINS }) =>
    AUTH &&
    isOpen(AUTH) &&
    CORS_ORIGINS?.includes('*') &&
    'CORS_ORIGINS is *, and the gateway does not authenticate: any web page that a user opens could publish and receive. Name the origins, or set AUTH',
  ({ TLS_CERT_FILE, TLS_KEY_FILE }) =>
    TLS_CERT_FILE && !TLS_KEY_FILE && 'TLS_KEY_FILE is missing: TLS_CERT_FILE needs its private key',
  ({ TLS_CERT_FILE, TLS_KEY_FILE }) =>
    TLS_KEY_FILE && !TLS_CERT_FILE && 'TLS_CERT_FILE is missing: TLS_KEY_FILE needs its certificate',
  ({ TLS_CERT_FILE, TLS_CLIENT_CA_FILE }) =>
    TLS_CLIENT_CA_FILE &&
    !TLS_CERT_FILE &&
    'TLS_CLIENT_CA_FILE is set, but TLS_CERT_FILE is not: clients can only present certificates over TLS',
  ({ AMQP_TLS_CERT_FILE, AMQP_TLS_KEY_FILE }) =>
    Boolean(AMQP_TLS_CERT_FILE) !== Boolean(AMQP_TLS_KEY_FILE) &&
    'AMQP_TLS_CERT_FILE and AMQP_TLS_KEY_FILE belong together: one is missing',
  ({ AMQP_URL, AMQP_TLS_CA_FILE, AMQP_TLS_CERT_FILE }) =>
    AMQP_URL?.every(({ protocol }) => protocol === 'amqp') &&
    (AMQP_TLS_CA_FILE || AMQP_TLS_CERT_FILE) &&
    'AMQP_TLS_CA_FILE or AMQP_TLS_CERT_FILE is set, but AMQP_URL does not use TLS: write amqps://',
  ({ PORT, OPERATIONS_PORT }) =>
    PORT !== 0 && PORT !== undefined && PORT === OPERATIONS_PORT && 'OPERATIONS_PORT is the same as PORT: choose another port',
  ({ OPERATIONS_HOST, OPERATIONS_PORT }) =>
    OPERATIONS_HOST && OPERATIONS_PORT === undefined && 'OPERATIONS_HOST is set, but OPERATIONS_PORT is not',
  ({ ADVERTISE_URL, ADVERTISE_SECRET }) =>
    ADVERTISE_URL &&
    ADVERTISE_SECRET === '' &&
    'ADVERTISE_SECRET is missing: without it, anyone could pretend to be an instance at ADVERTISE_URL',
  ({ ADVERTISE_URL, LEASE_SECRET }) =>
    ADVERTISE_URL &&
    LEASE_SECRET === '' &&
    'LEASE_SECRET is missing: with ADVERTISE_URL, lease ids lead to other instances, so nobody else may be able to make them',
  // If ADVERTISE_URL is malformed, it is missing here, and is already reported.
  (config) =>
    'ADVERTISE_URL' in config &&
    config.ADVERTISE_URL === undefined &&
    (config.ADVERTISE_SECRET || config.ADVERTISE_CA_FILE) &&
    'ADVERTISE_URL is missing: ADVERTISE_SECRET and ADVERTISE_CA_FILE have no effect without it',
  ({ ADVERTISE_URL, WORKERS }) =>
    ADVERTISE_URL &&
    WORKERS !== undefined &&
    WORKERS > 1 &&
    'ADVERTISE_URL must lead to one instance, but all WORKERS share a port: run separate instances with a port each instead',
  ({ MAX_LEASE, BROKER_CONSUMER_TIMEOUT }) =>
    MAX_LEASE !== undefined &&
    BROKER_CONSUMER_TIMEOUT !== undefined &&
    MAX_LEASE > longestLease({ BROKER_CONSUMER_TIMEOUT }) &&
    'MAX_LEASE is too long: it must be at least a minute shorter than BROKER_CONSUMER_TIMEOUT, after which RabbitMQ takes the message back',
]

/** Every broken rule, a sentence each. @param config the settings that could be read; the others are already reported */
export function brokenRules(config: Partial<Config>): string[] {
  return rules.map((rule) => rule(config) || '').filter((sentence) => sentence !== '')
}
