// The HTTP server under the application: its limits, its TLS, its log. Knows no route.

import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Server } from 'node:tls'
import Fastify, { type FastifyInstance, LogController } from 'fastify'
import { type Certificates, serverCertificates } from './config/certificates.js'
import type { Config, ConfigError } from './config/index.js'
import { standardOutput } from './lib/log-output.js'
import { watch } from './lib/watched-file.js'
import { clientError, frameworkError } from './plugins/errors.js'
import { proxyTrust } from './plugins/forwarded.js'

/** AMQP names have 255 bytes, each up to three characters in a path; a 60 KiB header table is the most in a header. */
const MAX_PATH_NAME_BYTES = 1024
const MAX_REQUEST_HEADER_BYTES = 128 * 1024

/** @param tls what it shows to its clients; undefined: it speaks plain HTTP */
export function createServer(config: Config, tls?: Certificates): FastifyInstance {
  const options = {
    maxHeaderSize: MAX_REQUEST_HEADER_BYTES,
    headersTimeout: config.HEADERS_TIMEOUT,
    requireHostHeader: false, // Node.js would answer by itself: plugins/http-rules.ts does
    // How often Node looks for those that took too long.
    connectionsCheckingInterval: Math.min(5000, config.HEADERS_TIMEOUT / 2),
  }
  const http: FastifyInstance = Fastify({
    logger:
      config.LOG_LEVEL === 'silent'
        ? false
        : {
            level: config.LOG_LEVEL,
            redact: ['req.headers.authorization', 'req.headers.cookie'],
            stream: standardOutput(),
          },
    logController: new LogController({ disableRequestLogging: true }),
    // One logger for all: every line that belongs to a request names its id itself.
    childLoggerFactory: (logger) => logger,
    genReqId: requestId,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    bodyLimit: 1024 * 1024,
    trustProxy: config.TRUST_PROXY.length > 0 && proxyTrust(config.TRUST_PROXY),
    keepAliveTimeout: config.KEEP_ALIVE_TIMEOUT,
    routerOptions: { maxParamLength: 16 * MAX_PATH_NAME_BYTES },
    ...(tls ? { https: { ...options, ...tlsOptions(config, tls) } } : { http: options }),
    clientErrorHandler: clientError,
    frameworkErrors: (error, request, reply) => frameworkError(() => http, error, request as never, reply as never),
  }) as unknown as FastifyInstance
  http.server.maxHeadersCount = 0 // their bytes are limited; of more lines than this Node would drop the rest in silence
  http.server.maxConnections = config.MAX_CONNECTIONS
  return http
}

function tlsOptions(config: Config, certificates: Certificates) {
  const mutual = config.TLS_CLIENT_CA_FILE !== ''
  return {
    ...certificates,
    minVersion: 'TLSv1.2',
    handshakeTimeout: config.HEADERS_TIMEOUT,
    requestCert: mutual,
    rejectUnauthorized: mutual,
  } as const
}

/** Certificates are renewed while the gateway runs: new connections get what stands in the files by then. */
export function renewCertificates(
  http: FastifyInstance,
  config: Config,
  renewed: () => void,
): { reload: () => void; close: () => void } {
  const reload = () => {
    try {
      const certificates = serverCertificates(config)!
      ;(http.server as unknown as Server).setSecureContext(tlsOptions(config, certificates))
      renewed()
      http.log.info({ file: config.TLS_CERT_FILE }, 'read the certificate')
    } catch (error) {
      const { mistakes } = error as ConfigError
      http.log.error({ mistakes }, 'the certificate has mistakes: the one from before stays in force')
    }
  }
  const files = [config.TLS_CERT_FILE, config.TLS_KEY_FILE, config.TLS_CLIENT_CA_FILE].filter(Boolean)
  const ends = files.map((file) => watch(file, reload))
  return { reload, close: () => ends.forEach((end) => void end()) }
}

/** The client's own id where it is one, so that its log and ours meet. */
function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(given) ? given : randomUUID()
}
