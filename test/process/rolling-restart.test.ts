// Restarts behind real load balancers. Set ROLLING_RESTARTS for more than one round.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { startHaproxy, startNginx } from '../support/balancer.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName } from '../support/gateway.js'
import { type GatewayProcess, readyGateway } from '../support/process.js'

const ROUNDS = Number(process.env['ROLLING_RESTARTS'] ?? 1)
const INTERVAL_MS = 30

/** Publishes over a new connection. @returns the status, or the error */
function publish(url: string, queue: string): Promise<string> {
  return new Promise((resolve) => {
    const outgoing = request(`${url}/queues/${queue}/messages`, { method: 'POST', agent: false })
    outgoing.once('response', (response) => {
      response.resume()
      response.once('end', () => resolve(String(response.statusCode)))
    })
    outgoing.once('error', (error) => resolve(error.message))
    outgoing.end('x')
  })
}

describe('rolling restart', () => {
  it('two instances behind HAProxy and nginx are restarted in turn, and no request is lost', {
    timeout: 60_000 + ROUNDS * 120_000,
  }, async (test) => {
    const ports = [await freePort(), await freePort()]
    const start = (port: number) => readyGateway({ AMQP_URL, PORT: String(port), SHUTDOWN_DELAY: '3s' })
    const gateways = (await Promise.all(ports.map(start))) as GatewayProcess[]
    const queue = freshName()
    assert.equal((await fetch(`${gateways[0]!.url}/queues/${queue}`, { method: 'PUT' })).status, 201)
    const [haproxy, nginx] = await Promise.all([startHaproxy(ports), startNginx(ports)])
    const allUp = () => eventually(async () => assert.equal(await haproxy.up(), 2), 30_000)
    await allUp()

    const results: Promise<string>[] = []
    const timer = setInterval(() => {
      for (const url of [haproxy.url, nginx]) results.push(publish(url, queue))
    }, INTERVAL_MS)
    for (let round = 0; round < ROUNDS; round++) {
      for (const [n, port] of ports.entries()) {
        gateways[n]!.child.kill('SIGTERM')
        assert.equal(await gateways[n]!.exited, 0)
        gateways[n] = await start(port)
        await allUp()
      }
    }
    clearInterval(timer)
    const statuses = await Promise.all(results)
    test.diagnostic(`${statuses.length} requests, ${2 * ROUNDS} restarts`)
    assert.deepEqual([...new Set(statuses)], ['201'])
    const [last] = gateways
    await fetch(`${last!.url}/queues/${queue}`, { method: 'DELETE' })
  })
})
