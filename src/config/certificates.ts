// The certificates and keys that the configuration names, read and checked against each other before anything relies on them.

import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { type Config, ConfigError } from './index.js'

type FileSetting =
  | 'TLS_CERT_FILE'
  | 'TLS_KEY_FILE'
  | 'TLS_CLIENT_CA_FILE'
  | 'ADVERTISE_CA_FILE'
  | 'AMQP_TLS_CA_FILE'
  | 'AMQP_TLS_CERT_FILE'
  | 'AMQP_TLS_KEY_FILE'

/** The current contents of the files. */
export type Certificates = Pick<SecureContextOptions, 'cert' | 'key' | 'ca'>

/**
 * The gateway's certificate for clients, and the CA of client certificates; undefined if TLS_CERT_FILE is not set.
 * @throws ConfigError with every mistake in the files
 */
export function serverCertificates(config: Config): Certificates | undefined {
  if (!config.TLS_CERT_FILE) return undefined
  return readCertificates(config, { cert: 'TLS_CERT_FILE', key: 'TLS_KEY_FILE', ca: 'TLS_CLIENT_CA_FILE' })
}

/**
 * The gateway's client certificate for RabbitMQ, and the CA that replaces the default ones.
 * @throws ConfigError with every mistake in the files
 */
export function brokerCertificates(config: Config): Certificates {
  return readCertificates(config, { cert: 'AMQP_TLS_CERT_FILE', key: 'AMQP_TLS_KEY_FILE', ca: 'AMQP_TLS_CA_FILE' })
}

/**
 * The certificate for requests to other instances, which is the one for clients, and the CA of the other instances' certificates.
 * @throws ConfigError with every mistake in the files
 */
export function instanceCertificates(config: Config): Certificates {
  return readCertificates(config, { cert: 'TLS_CERT_FILE', key: 'TLS_KEY_FILE', ca: 'ADVERTISE_CA_FILE' })
}

function readCertificates(config: Config, files: Record<'cert' | 'key' | 'ca', FileSetting>): Certificates {
  const mistakes: string[] = []
  const found: Certificates = {}
  for (const part of ['cert', 'key', 'ca'] as const) {
    const path = config[files[part]]
    if (!path) continue
    try {
      found[part] = readFileSync(path)
      // The key is checked with its certificate below. Without this check, TLS would accept a CA file that has no certificate.
      if (part !== 'key') new X509Certificate(found[part])
    } catch (error) {
      mistakes.push(`${files[part]} ${path}: ${readFailure(error as NodeJS.ErrnoException)}`)
    }
  }
  if (mistakes.length === 0 && found.cert) {
    try {
      createSecureContext(found)
    } catch (error) {
      mistakes.push(
        `${files.key} ${config[files.key]}: does not match ${files.cert}: ${readFailure(error as NodeJS.ErrnoException)}`,
      )
    }
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  return found
}

/** OpenSSL's messages never contain the bytes it read. */
const readFailure = ({ code, message }: NodeJS.ErrnoException): string =>
  code?.startsWith('E') && !code.startsWith('ERR_') ? `cannot be read: ${code}` : message
