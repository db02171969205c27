// Paths with a vhost: /vhosts/{vhost}/… works like the default vhost, with its own connections.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'
import { openUpload } from '../support/upload.js'

const gateway = await startGateway({ VHOST_IDLE: '1s' })
const vhost = freshName('vhost/with slash')
const encoded = encodeURIComponent(vhost)
await management(`vhosts/${encoded}`, { method: 'PUT' })
await management(`permissions/${encoded}/guest`, {
  method: 'PUT',
  body: JSON.stringify({ configure: '.*', write: '.*', read: '.*' }),
})
gateway.cleanups.push(() => management(`vhosts/${encoded}`, { method: 'DELETE' }))

describe('vhosts in the path', () => {
  it('each vhost has its own queues, messages and leases', async () => {
    const base = `/vhosts/${encoded}`
    await gateway.put(`${base}/queues/q`).expect(201)
    await gateway.post(`${base}/queues/q/messages`).send('x').expect(201)
    assert.equal((await gateway.get(`${base}/queues/q`).expect(200)).body.vhost, vhost)
    const [message] = (await gateway.get(`${base}/queues/q/messages`).expect(200)).body.messages
    const lease = `/leases/${message.lease.id}`
    assert.equal((await gateway.get(lease).expect(200)).body.vhost, vhost)
    assert.equal((await gateway.get(`/vhosts/%2F${lease}`).expect(404)).body.code, 'lease_not_found')
    await gateway.post(`${base}${lease}/ack`).expect(204)
    await gateway.post(`${lease}/ack`).expect(204)
    assert.equal((await gateway.get('/queues/q').expect(404)).body.code, 'queue_not_found')
  })

  it('the default vhost in the path uses the default connections', async () => {
    const queue = freshName()
    await gateway.put(`/vhosts/%2F/queues/${queue}`).expect(201)
    await gateway.delete(`/queues/${queue}`).expect(204)
    assert.equal(gateway.app.services.vhosts.all().filter(({ name }) => name === '/').length, 1)
  })

  it('the connections of an unused vhost are closed and opened again on demand', async () => {
    await gateway.put(`/vhosts/${encoded}/queues/q`).expect(200)
    await eventually(() => assert.equal(gateway.app.services.vhosts.all().length, 1))
    await gateway.put(`/vhosts/${encoded}/queues/q`).expect(200)
  })

  it('a batch can be the first request to a vhost', async () => {
    const messages = [{ payload: 1 }]
    await gateway.put(`/vhosts/${encoded}/queues/batch`).expect(201)
    await gateway.put(`/vhosts/${encoded}/exchanges/batch`).send({ type: 'fanout' }).expect(201)
    for (const path of ['queues', 'exchanges']) {
      await eventually(() => assert.equal(gateway.app.services.vhosts.all().length, 1))
      const { body } = await gateway.post(`/vhosts/${encoded}/${path}/batch/messages/batch`).send({ messages }).expect(200)
      assert.equal(body.results[0].status, path === 'queues' ? 'confirmed' : 'unroutable')
    }
  })

  it('an open upload keeps the connections of its vhost', async () => {
    await gateway.put(`/vhosts/${encoded}/queues/q`)
    const { outgoing, until, whole } = openUpload(`${gateway.url}/vhosts/${encoded}/queues/q/messages/batch`)
    outgoing.write('{"payload": 1}\n')
    await until(1)
    // The connections of another vhost, used later, are closed first.
    const witness = freshName('vhost')
    await management(`vhosts/${witness}`, { method: 'PUT' })
    gateway.cleanups.push(() => management(`vhosts/${witness}`, { method: 'DELETE' }))
    await management(`permissions/${witness}/guest`, { method: 'PUT', body: '{"configure": ".*", "write": ".*", "read": ".*"}' })
    await gateway.put(`/vhosts/${witness}/queues/q`).expect(201)
    const names = () => gateway.app.services.vhosts.all().map(({ name }) => name)
    await eventually(() => assert.ok(!names().includes(witness)))
    outgoing.end('{"payload": 2}\n')
    assert.deepEqual((await whole()).totals, { published: 2, failed: 0 })
    await eventually(() => assert.equal(names().length, 1))
  })

  it('a missing vhost is answered with 404 on every path', async () => {
    for (const path of ['/queues/q', '/queues/q/messages', '/exchanges/e']) {
      assert.equal((await gateway.get(`/vhosts/nonsense${path}`).expect(404)).body.code, 'vhost_not_found')
    }
    assert.equal((await gateway.post('/vhosts/nonsense/queues/q/messages').send('x').expect(404)).body.code, 'vhost_not_found')
    assert.equal(gateway.app.services.notReady(), undefined)
  })

  it('a lease in a vhost that the instance may not access is answered with lease_unreachable', async () => {
    const user = freshName('user')
    await management(`users/${user}`, { method: 'PUT', body: JSON.stringify({ password: 'secret', tags: '' }) })
    const rights = { method: 'PUT', body: JSON.stringify({ configure: '.*', write: '.*', read: '.*' }) }
    await management(`permissions/%2F/${user}`, rights)
    const url = new URL(AMQP_URL)
    url.username = user
    url.password = 'secret'
    const owner = await startGateway({ LEASE_SECRET: 'shared by instances' })
    const other = await startGateway({ LEASE_SECRET: 'shared by instances', AMQP_URL: url.href })
    const queue = `/vhosts/${encoded}/queues/${freshName()}`
    await owner.put(queue).expect(201)
    await owner.post(`${queue}/messages`).send('x').expect(201)
    const { body } = await owner.get(`${queue}/messages`).expect(200)
    const ack = () => other.post(`/leases/${body.messages[0].lease.id}/ack`)
    assert.equal((await ack().expect(503)).body.code, 'lease_unreachable')
    await management(`permissions/${encoded}/${user}`, rights)
    await eventually(() => ack().expect(204))
    await management(`users/${user}`, { method: 'DELETE' })
  })

  it('the leases of a deleted vhost are gone', async () => {
    const name = freshName('vhost')
    await management(`vhosts/${name}`, { method: 'PUT' })
    const rights = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
    await management(`permissions/${name}/guest`, { method: 'PUT', body: rights })
    const queue = `/vhosts/${name}/queues/q`
    await gateway.put(queue).expect(201)
    for (let n = 0; n < 2; n++) await gateway.post(`${queue}/messages`).send('x').expect(201)
    const { body } = await gateway.get(`${queue}/messages?max=2&wait=5s`).expect(200)
    const [settled, open] = body.messages.map(({ lease }: { lease: { id: string } }) => lease.id)
    await gateway.post(`/leases/${settled}/ack`).expect(204)
    await management(`vhosts/${name}`, { method: 'DELETE' })
    await eventually(() => assert.ok(gateway.app.services.vhosts.all().every((one) => one.name !== name)), 20_000)
    assert.equal((await gateway.post(`/leases/${open}/ack`).expect(410)).body.code, 'lease_gone')
  })

  it('a vhost beyond MAX_VHOSTS is refused', async () => {
    const small = await startGateway({ MAX_VHOSTS: '1' })
    assert.equal((await small.get(`/vhosts/${encoded}/queues/q`).expect(503)).body.code, 'overloaded')
  })
})
