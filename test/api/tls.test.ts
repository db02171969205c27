// HTTPS for clients, with certificates created by the test.

import assert from 'node:assert/strict'
import { copyFileSync, readFileSync } from 'node:fs'
import { type RequestOptions, request } from 'node:https'
import { describe, it } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { buildApp } from '../../src/app.js'
import { ConfigError, loadConfig } from '../../src/config/index.js'
import { createAuthority } from '../support/certificates.js'
import { eventually } from '../support/eventually.js'
import { freshFile } from '../support/files.js'
import { AMQP_URL, type Gateway, startGateway } from '../support/gateway.js'
import { overSocket } from '../support/http.js'

const authority = createAuthority()
const server = authority.issue('gateway')
const TLS = { TLS_CERT_FILE: server.cert, TLS_KEY_FILE: server.key }

interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** The common name of the gateway's certificate. */
  name: string
  protocol: string
}

/** Sends one request on a new connection. */
function send({ url }: Gateway, path: string, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { port } = new URL(url)
    const outgoing = request({ host: '127.0.0.1', port, path, ca: authority.pem, agent: false, ...options }, (response) => {
      const socket = response.socket as TLSSocket
      const name = socket.getPeerCertificate().subject.CN as string
      resolve({ status: response.statusCode!, headers: response.headers, name, protocol: socket.getProtocol()! })
      response.resume()
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}
const client = ({ cert, key }: { cert: string; key: string }) => ({ cert: readFileSync(cert), key: readFileSync(key) })

describe('HTTPS', () => {
  it('a gateway with a certificate serves HTTPS with HSTS', async () => {
    const gateway = await startGateway(TLS)
    const answer = await send(gateway, '/health/ready')
    assert.equal(answer.status, 200)
    assert.equal(answer.name, 'gateway')
    assert.match(answer.protocol, /^TLSv1\.[23]$/)
    assert.equal(answer.headers['strict-transport-security'], 'max-age=31536000')
    assert.equal((await send(gateway, '/queues/nowhere')).status, 404)
  })

  it('a gateway with a certificate refuses plain HTTP and TLS 1.1', async () => {
    const gateway = await startGateway(TLS)
    assert.doesNotMatch(await overSocket(gateway.url, 'GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n'), /^HTTP\/1\.1 2/)
    await assert.rejects(
      send(gateway, '/health/live', { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }),
    )
    await assert.rejects(send(gateway, '/health/live', { ca: createAuthority('another').pem }), /certificate/)
  })

  it('the limits on headers and time apply to HTTPS as well', async () => {
    const gateway = await startGateway({ ...TLS, HEADERS_TIMEOUT: '300ms' })
    const headers = Object.fromEntries(Array.from({ length: 27 }, (_, i) => [`x-${i}`, 'a'.repeat(5000)]))
    assert.equal((await send(gateway, '/health/live', { headers })).status, 431)
    assert.equal(gateway.app.http.server.headersTimeout, 300)
    // A connection without a handshake.
    assert.equal(await overSocket(gateway.url, ''), '')
  })

  it('a renewed certificate is served once both files fit together', async () => {
    const [cert, key] = [freshFile('cert.pem', readFileSync(server.cert)), freshFile('key.pem', readFileSync(server.key))]
    const gateway = await startGateway({ TLS_CERT_FILE: cert, TLS_KEY_FILE: key })
    assert.equal((await send(gateway, '/health/live')).name, 'gateway')
    const renewed = authority.issue('renewed')
    copyFileSync(renewed.cert, cert)
    // The new certificate does not fit the old key: the gateway keeps the old pair.
    gateway.app.reload!()
    assert.equal((await send(gateway, '/health/live')).name, 'gateway')
    copyFileSync(renewed.key, key)
    await eventually(async () => assert.equal((await send(gateway, '/health/live')).name, 'renewed'))
  })
})

describe('client certificates', () => {
  it('only clients with a certificate of the configured authority can connect', async () => {
    const gateway = await startGateway({ ...TLS, TLS_CLIENT_CA_FILE: authority.cert })
    assert.equal((await send(gateway, '/health/live', client(authority.issue('worker')))).status, 200)
    await assert.rejects(send(gateway, '/health/live'))
    await assert.rejects(send(gateway, '/health/live', client(createAuthority('another').issue('worker'))))
  })
})

describe('certificate settings', () => {
  const mistakes = async (env: Record<string, string>): Promise<string[]> => {
    const error = await buildApp(loadConfig({ AMQP_URL, LOG_LEVEL: 'silent', ...env })).then(
      async (app) => app.close(),
      (error: Error) => error,
    )
    assert.ok(error instanceof ConfigError)
    return error.mistakes.map((mistake) => mistake.split(' ')[0]!)
  }

  it('certificate files that are unreadable, invalid or do not fit together are all reported as mistakes', async () => {
    const nonsense = freshFile('nonsense.pem', 'nonsense')
    assert.deepEqual(await mistakes({ TLS_CERT_FILE: nonsense, TLS_KEY_FILE: `${nonsense}.nowhere` }), [
      'TLS_CERT_FILE',
      'TLS_KEY_FILE',
    ])
    assert.deepEqual(await mistakes({ ...TLS, TLS_KEY_FILE: authority.key }), ['TLS_KEY_FILE'])
    assert.deepEqual(await mistakes({ ...TLS, TLS_CLIENT_CA_FILE: nonsense }), ['TLS_CLIENT_CA_FILE'])
    const broker = AMQP_URL.replace('amqp:', 'amqps:')
    assert.deepEqual(await mistakes({ AMQP_URL: broker, AMQP_TLS_CA_FILE: nonsense }), ['AMQP_TLS_CA_FILE'])
  })

  it('incomplete certificate settings are reported as mistakes', () => {
    const named = (env: Record<string, string>): string => {
      try {
        loadConfig(env)
        return ''
      } catch (error) {
        return (error as ConfigError).mistakes.map((mistake) => mistake.split(' ')[0]!).join()
      }
    }
    assert.equal(named({ TLS_CERT_FILE: 'c' }), 'TLS_KEY_FILE')
    assert.equal(named({ TLS_KEY_FILE: 'k' }), 'TLS_CERT_FILE')
    assert.equal(named({ TLS_CLIENT_CA_FILE: 'c' }), 'TLS_CLIENT_CA_FILE')
    assert.equal(named({ AMQP_TLS_CERT_FILE: 'c', AMQP_URL: 'amqps://h' }), 'AMQP_TLS_CERT_FILE')
    assert.equal(named({ AMQP_TLS_CA_FILE: 'c' }), 'AMQP_TLS_CA_FILE')
    assert.equal(named({ AMQP_TLS_CA_FILE: 'c', AMQP_URL: 'amqps://h' }), '')
  })
})
