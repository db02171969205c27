// TLS to RabbitMQ, which has a certificate and requires one from the gateway.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { freePort, startBroker } from '../../scripts/broker.mjs'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { createAuthority } from '../support/certificates.js'
import { eventually } from '../support/eventually.js'
import { freshName, startGateway } from '../support/gateway.js'

const authority = createAuthority()
const [server, own] = [authority.issue('rabbitmq'), authority.issue('gateway')]
const stranger = createAuthority('Another authority')

const port = await freePort()
const dir = await mkdtemp(join(tmpdir(), 'gateway-broker-tls-'))
const config = [
  `listeners.ssl.1 = 127.0.0.1:${port}`,
  `ssl_options.cacertfile = ${authority.cert}`,
  `ssl_options.certfile = ${server.cert}`,
  `ssl_options.keyfile = ${server.key}`,
  'ssl_options.verify = verify_peer',
  'ssl_options.fail_if_no_peer_cert = true',
].join('\n')
const broker = await startBroker({ dir, config })
after(async () => {
  await broker.kill()
  await rm(dir, { recursive: true, force: true })
})

const AMQP_URL = `amqps://guest:guest@127.0.0.1:${port}/`
const CA = { AMQP_TLS_CA_FILE: authority.cert }
const OWN = { AMQP_TLS_CERT_FILE: own.cert, AMQP_TLS_KEY_FILE: own.key }

/** Starts a gateway that cannot connect, and resolves with the reason of its state once its first attempt has failed. */
async function reason(env: Record<string, string>): Promise<string> {
  const app = await buildApp(loadConfig({ AMQP_URL, LOG_LEVEL: 'silent', ...env }))
  after(app.close)
  return eventually(() => {
    const { state, reason } = app.services.vhosts.default.publisher.connection
    assert.equal(state, 'down')
    assert.ok(app.services.notReady())
    return reason
  })
}

describe('TLS to the broker', () => {
  it('a gateway with the broker’s authority and a client certificate connects', async () => {
    const gateway = await startGateway({ AMQP_URL, ...CA, ...OWN })
    const queue = freshName()
    await gateway.put(`/queues/${queue}`).expect(201)
    await gateway.post(`/queues/${queue}/messages`).send('x').expect(201)
    const { body } = await gateway.get(`/queues/${queue}/messages`).expect(200)
    await gateway.post(`/leases/${body.messages[0].lease.id}/ack`).expect(204)
  })

  it('a gateway connects to a broker by its host name', async () => {
    const gateway = await startGateway({ AMQP_URL: AMQP_URL.replace('127.0.0.1', 'localhost'), ...CA, ...OWN })
    await gateway.get('/health/ready').expect(200)
  })

  it('a gateway without the broker’s authority is not ready because of the certificate', async () => {
    assert.match(await reason(OWN), /certificate/)
    assert.match(await reason({ ...OWN, AMQP_TLS_CA_FILE: stranger.cert }), /certificate/)
  })

  it('a gateway without a client certificate or with one of another authority is not ready', async () => {
    const other = stranger.issue('gateway')
    assert.ok(await reason(CA))
    assert.ok(await reason({ ...CA, AMQP_TLS_CERT_FILE: other.cert, AMQP_TLS_KEY_FILE: other.key }))
  })
})
