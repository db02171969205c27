// HTTPS to clients, with certificates that the tests make.

import assert from 'node:assert/strict'
import { copyFileSync, readFileSync } from 'node:fs'
import { type RequestOptions, request } from 'node:https'
import { describe, it } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { buildApp } from '../../src/app.js'
import { ConfigError, loadConfig } from '../../src/config/index.js'
import { freshFile } from '../support/access.js'
import { createAuthority } from '../support/certificates.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, type Gateway, startGateway } from '../support/gateway.js'
import { overSocket } from '../support/http.js'

const authority = createAuthority()
const server = authority.issue('gateway')
const TLS = { TLS_CERT_FILE: server.cert, TLS_KEY_FILE: server.key }

interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** Common name of the gateway's certificate. */
  name: string
  protocol: string
}

/** One request on a connection of its own. */
function ask({ url }: Gateway, path: string, options: RequestOptions = {}): Promise<Answer> {
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

describe('a gateway with a certificate', () => {
  it('speaks HTTPS, and tells browsers to keep to it', async () => {
    const gateway = await startGateway(TLS)
    const answer = await ask(gateway, '/health/ready')
    assert.equal(answer.status, 200)
    assert.equal(answer.name, 'gateway')
    assert.match(answer.protocol, /^TLSv1\.[23]$/)
    assert.equal(answer.headers['strict-transport-security'], 'max-age=31536000')
    assert.equal((await ask(gateway, '/queues/nowhere')).status, 404)
  })

  it('speaks no plain HTTP and no old TLS', async () => {
    const gateway = await startGateway(TLS)
    assert.doesNotMatch(await overSocket(gateway.url, 'GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n'), /^HTTP\/1\.1 2/)
    await assert.rejects(
      ask(gateway, '/health/live', { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }),
    )
    await assert.rejects(ask(gateway, '/health/live', { ca: createAuthority('another').pem }), /certificate/)
  })

  it('keeps to the limits that plain HTTP has', async () => {
    const gateway = await startGateway({ ...TLS, HEADERS_TIMEOUT: '300ms' })
    const headers = Object.fromEntries(Array.from({ length: 27 }, (_, i) => [`x-${i}`, 'a'.repeat(5000)]))
    assert.equal((await ask(gateway, '/health/live', { headers })).status, 431)
    assert.equal(gateway.app.http.server.headersTimeout, 300)
    // A connection on which no handshake begins.
    assert.equal(await overSocket(gateway.url, ''), '')
  })

  it('shows a new certificate once that is in its files', async () => {
    const [cert, key] = [freshFile('cert.pem', readFileSync(server.cert)), freshFile('key.pem', readFileSync(server.key))]
    const gateway = await startGateway({ TLS_CERT_FILE: cert, TLS_KEY_FILE: key })
    assert.equal((await ask(gateway, '/health/live')).name, 'gateway')
    const renewed = authority.issue('renewed')
    copyFileSync(renewed.cert, cert)
    // Half of it is a mistake, and the certificate from before stays.
    gateway.app.reload!()
    assert.equal((await ask(gateway, '/health/live')).name, 'gateway')
    copyFileSync(renewed.key, key)
    await eventually(async () => assert.equal((await ask(gateway, '/health/live')).name, 'renewed'))
  })
})

describe('a gateway that asks clients for certificates', () => {
  it('lets those in that its authority issued, and nobody else', async () => {
    const gateway = await startGateway({ ...TLS, TLS_CLIENT_CA_FILE: authority.cert })
    assert.equal((await ask(gateway, '/health/live', client(authority.issue('worker')))).status, 200)
    await assert.rejects(ask(gateway, '/health/live'))
    await assert.rejects(ask(gateway, '/health/live', client(createAuthority('another').issue('worker'))))
  })
})

describe('certificates', () => {
  const mistakes = async (env: Record<string, string>): Promise<string[]> => {
    const error = await buildApp(loadConfig({ AMQP_URL, LOG_LEVEL: 'silent', ...env })).then(
      async (app) => app.closeApp(),
      (error: Error) => error,
    )
    assert.ok(error instanceof ConfigError)
    return error.mistakes.map((mistake) => mistake.split(' ')[0]!)
  }

  it('that can’t be read, are none, or don’t fit are mistakes, all of them told', async () => {
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

  it('that are half of what is needed are mistakes', () => {
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
