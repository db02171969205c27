// A cluster of which nodes are down: every node of AMQP_URL is asked before anybody is told no.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { withAuthorization } from '../support/access.js'
import { AMQP_URL, freshName, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { proxied } from '../support/proxy.js'
import { freshVhost } from '../support/vhost.js'

const dead = new URL(AMQP_URL)
dead.port = String(await freePort())
const { proxy, url: frozen } = await proxied(AMQP_URL)
proxy.freeze()

/** Only the first of three nodes is well: one refuses connections, one accepts them and is silent. */
const nodes = `${AMQP_URL},${dead.href},${frozen}`
const ROUNDS = 8

describe('a declaration that RabbitMQ 4.3 and later may end the connection over', () => {
  it('has a connection of its own', async () => {
    const { proxy: counting, url } = await proxied(AMQP_URL)
    const gateway = await startGateway({ AMQP_URL: url })
    const before = counting.accepted
    const [durable, transient] = [freshName(), freshName()]
    await gateway.put(`/queues/${durable}`).expect(201)
    assert.equal(counting.accepted, before)
    await gateway.put(`/queues/${transient}`).send({ durable: false }).expect(201)
    assert.equal(counting.accepted, before + 1)
    for (const queue of [durable, transient]) await gateway.delete(`/queues/${queue}`).expect(204)
  })
})

describe('nodes of a cluster', () => {
  it('a vhost that is used for the first time is found, whichever node is asked first', { timeout: 60_000 }, async () => {
    const gateway = await startGateway({ AMQP_URL: nodes })
    for (let n = 0; n < ROUNDS; n++) {
      const { name, delete: end } = await freshVhost()
      await gateway.put(`/vhosts/${name}/queues/q`).expect(201)
      await end()
    }
  })

  it('a RabbitMQ user who comes for the first time is let in, whichever node is asked first', { timeout: 60_000 }, async () => {
    const gateway = await startGateway({ AMQP_URL: nodes, AUTH: 'broker' })
    for (let n = 0; n < ROUNDS; n++) {
      const name = freshName('user')
      await management(`users/${name}`, { method: 'PUT', body: JSON.stringify({ password: 'secret', tags: '' }) })
      const everything = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
      await management(`permissions/%2F/${name}`, { method: 'PUT', body: everything })
      const client = withAuthorization(gateway, `Basic ${btoa(`${name}:secret`)}`)
      await client.put(`/queues/${name}`).expect(201)
      await client.delete(`/queues/${name}`).expect(204)
      await management(`users/${name}`, { method: 'DELETE' })
    }
    await withAuthorization(gateway, `Basic ${btoa('nobody:wrong')}`)
      .get('/queues/q')
      .expect(401)
  })

  it('the metrics name the node that is used', async () => {
    const gateway = await startGateway({ AMQP_URL: nodes })
    const { host } = new URL(AMQP_URL)
    assert.match((await gateway.get('/metrics')).text, new RegExp(`^gateway_broker_node_connections\\{node="${host}"\\} 4$`, 'm'))
  })
})
