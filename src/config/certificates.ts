// The certificates and keys that the configuration names: read, and seen to fit together, before anything relies on them.

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

/** What stands in the files, as it is now. */
export type Certificates = Pick<SecureContextOptions, 'cert' | 'key' | 'ca'>

/**
 * What the gateway shows to clients, and whose certificates it takes from them; undefined where it speaks no TLS.
 * @throws ConfigError with every mistake in the files
 */
export function serverCertificates(config: Config): Certificates | undefined {
  if (!config.TLS_CERT_FILE) return undefined
  return readCertificates(config, { cert: 'TLS_CERT_FILE', key: 'TLS_KEY_FILE', ca: 'TLS_CLIENT_CA_FILE' })
}

/**
 * What the gateway shows to RabbitMQ, and which authority it believes in instead of the usual ones.
 * @throws ConfigError with every mistake in the files
 */
export function brokerCertificates(config: Config): Certificates {
  return readCertificates(config, { cert: 'AMQP_TLS_CERT_FILE', key: 'AMQP_TLS_KEY_FILE', ca: 'AMQP_TLS_CA_FILE' })
}

/**
 * What the gateway shows to other instances, which is what it shows to clients, and whose certificates it takes from them.
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
      // A key alone says nothing; it is tried with its certificate. TLS itself would take an authority's file with none in it.
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
        `${files.key} ${config[files.key]}: does not fit ${files.cert}: ${readFailure(error as NodeJS.ErrnoException)}`,
      )
    }
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  return found
}

/** OpenSSL's words name no bytes of what it read. */
const readFailure = ({ code, message }: NodeJS.ErrnoException): string =>
  code?.startsWith('E') && !code.startsWith('ERR_') ? `can't be read: ${code}` : message
