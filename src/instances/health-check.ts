// The command `health`: asks the gateway of the same settings whether it is alive, as the image's health check does.

import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { Config } from '../config/index.js'

const TIMEOUT_MS = 5000

/**
 * Asks `/health/live` on the operations port, or else on the gateway's own, over loopback if it listens on every address.
 * @returns the exit code: 0 if the gateway is alive, 1 if not; the reason goes to stderr
 */
export async function checkHealth(config: Config): Promise<0 | 1> {
  const { PORT, OPERATIONS_PORT, TLS_CERT_FILE } = config
  const host = loopback(OPERATIONS_PORT === undefined ? config.HOST : (config.OPERATIONS_HOST ?? config.HOST))
  const isSecure = TLS_CERT_FILE !== '' && OPERATIONS_PORT === undefined
  const failure = await ask(isSecure, host, OPERATIONS_PORT ?? PORT)
  if (failure === undefined) return 0
  console.error(`The gateway is not alive: ${failure}.`)
  return 1
}

/** @returns why it is not alive; undefined if it is */
function ask(isSecure: boolean, host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    let isConnected = false
    const options = { host, port, path: '/health/live', timeout: TIMEOUT_MS, headers: { host: 'localhost' } }
    // The certificate is not for this name; nobody else listens on this machine's port.
    const request = isSecure ? requestHttps({ ...options, rejectUnauthorized: false }) : requestHttp(options)
    request.once('response', (response) => {
      response.resume()
      resolve(response.statusCode === 200 ? undefined : `it answered ${response.statusCode}`)
    })
    request.once('socket', (socket) =>
      socket.once('secureConnect', () => {
        isConnected = true
      }),
    )
    request.once('timeout', () => request.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)))
    // With mutual TLS the handshake proves life: what follows is refused, since this client has no certificate.
    request.once('error', (error: Error) => resolve(isConnected ? undefined : error.message || String(error)))
    request.end()
  })
}

function loopback(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  return host === '::' ? '::1' : host
}
