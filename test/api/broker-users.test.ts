// AUTH=broker: the users and permissions of RabbitMQ.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, describe, it } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { type Client, withAuthorization } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshName, type Gateway, knows, startGateway } from '../support/gateway.js'
import { management } from '../support/management.js'

const gateway = await startGateway({ AUTH: 'broker', MAX_VHOSTS: '100' })
const basic = (user: string, password: string) => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`

interface User {
  name: string
  password: string
  as: (at: Gateway) => Client
}

async function setPassword(name: string, password: string): Promise<void> {
  await management(`users/${name}`, { method: 'PUT', body: JSON.stringify({ password, tags: '' }) })
}

async function freshUser(permissions: { configure?: string; write?: string; read?: string }, vhost = '%2F'): Promise<User> {
  const [name, password] = [freshName('user'), randomUUID()]
  await setPassword(name, password)
  after(() => management(`users/${name}`, { method: 'DELETE' }).catch(() => undefined)) // a test may have deleted it
  await management(`permissions/${vhost}/${name}`, {
    method: 'PUT',
    body: JSON.stringify({ configure: '', write: '', read: '', ...permissions }),
  })
  return { name, password, as: (at) => withAuthorization(at, basic(name, password)) }
}

const owner = await freshUser({ configure: '.*', write: '.*', read: '.*' })
async function freshQueue(): Promise<string> {
  const queue = freshName('queue')
  await owner.as(gateway).put(`/queues/${queue}`).expect(201)
  gateway.cleanups.push(async () => owner.as(gateway).delete(`/queues/${queue}`))
  return queue
}

describe('RabbitMQ users', () => {
  it('a user may do what their RabbitMQ permissions allow and nothing else', async () => {
    const [queue, other] = [await freshQueue(), await freshQueue()]
    await owner.as(gateway).post(`/queues/${queue}/messages`).send('x').expect(201)
    const reader = (await freshUser({ read: `^${queue.replaceAll('.', '[.]')}$` })).as(gateway)
    const { messages } = (await reader.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
    await reader.post(`/leases/${messages[0].lease.id}/ack`).expect(204)
    for (const response of [
      await reader.post(`/queues/${queue}/messages`).send('x'),
      await reader.get(`/queues/${other}/messages`),
      await reader.get(`/queues/${freshName()}/messages`),
      await reader.get(`/queues/${other}/stream`),
      await reader.put(`/queues/${freshName()}`),
      await reader.delete(`/queues/${queue}`),
      await reader.put(`/exchanges/${freshName()}`).send({ type: 'fanout' }),
    ]) {
      assert.deepEqual([response.status, response.body.code], [403, 'access_refused'], response.text)
    }
  })

  it('the gateway declares no queue that is neither exclusive nor durable, as RabbitMQ 4.3 and later may refuse it', async () => {
    const queues = await management<{ name: string; exclusive: boolean; durable: boolean }[]>('queues/%2F')
    const own = queues.filter(({ name }) => name.startsWith('gateway.'))
    assert.ok(own.some(({ name }) => name === `gateway.control.${gateway.app.services.vhosts.instance}`))
    assert.deepEqual(
      own.filter(({ exclusive, durable }) => !exclusive && !durable),
      [],
    )
  })

  it('a user may set their own name as user_id and no other', async () => {
    const queue = await freshQueue()
    const client = owner.as(gateway)
    await client.post(`/queues/${queue}/messages`).set('amqp-user-id', owner.name).send('x').expect(201)
    await client.post(`/queues/${queue}/messages`).set('amqp-user-id', 'guest').send('x').expect(400)
    const { messages } = (await client.get(`/queues/${queue}/messages?ack=auto`).expect(200)).body
    assert.equal(messages[0].properties.user_id, owner.name)
  })

  it('a vhost without permissions for the user is answered with vhost_not_found', async () => {
    const vhost = freshName('vhost')
    await management(`vhosts/${vhost}`, { method: 'PUT', body: JSON.stringify({}) })
    after(() => management(`vhosts/${vhost}`, { method: 'DELETE' }))
    const response = await owner.as(gateway).get(`/vhosts/${vhost}/queues/q/messages`)
    assert.deepEqual([response.status, response.body.code], [404, 'vhost_not_found'])
    const inside = await freshUser({ configure: '.*', write: '.*', read: '.*' }, vhost)
    await inside.as(gateway).get(`/vhosts/${vhost}/queues/nowhere/messages`).expect(404)
    assert.equal((await inside.as(gateway).get('/queues/nowhere/messages').expect(404)).body.code, 'vhost_not_found')
  })

  it('a missing or wrong password is refused with 401', async () => {
    const ways = ['', 'Basic', `Bearer ${randomUUID()}`, basic(owner.name, 'wrong'), basic(owner.name, `${owner.password}\0`)]
    ways.push(basic(`${owner.name}\0`, owner.password), basic('', owner.password), basic(owner.password, owner.name))
    const own = await startGateway({ AUTH: 'broker' })
    for (const way of ways) {
      const response = await withAuthorization(own, way).get('/queues/q/messages')
      assert.deepEqual([response.status, response.body.code], [401, 'unauthorized'], way)
      assert.equal(response.headers['www-authenticate'], 'Basic realm="rabbitmq-http-gateway", charset="UTF-8"')
    }
  })

  it('an address is refused with 429 after ten wrong passwords, while known users still come in', async () => {
    const own = await startGateway({ AUTH: 'broker' })
    await owner.as(own).get('/queues/nowhere/messages').expect(404)
    const statuses: number[] = []
    for (let n = 0; n < 15; n++) {
      const guess = withAuthorization(own, basic(owner.name, `guess ${n}`))
      const response = await guess.get('/queues/q/messages')
      statuses.push(response.status)
      if (response.status === 429) assert.ok(Number(response.headers['retry-after']) > 0)
    }
    assert.deepEqual(statuses, [...new Array(10).fill(401), ...new Array(5).fill(429)])
    await owner.as(own).get('/queues/nowhere/messages').expect(404)
  })

  it('wrong passwords from one IPv6 /64 are counted together', async () => {
    const own = await startGateway({ AUTH: 'broker', TRUST_PROXY: 'loopback' })
    const from = async (address: string) => {
      const guess = withAuthorization(own, basic(owner.name, randomUUID())).get('/queues/q/messages')
      return (await guess.set('x-forwarded-for', address)).status
    }
    for (let n = 0; n < 10; n++) assert.equal(await from(`2001:db8::${n + 1}`), 401)
    assert.equal(await from('2001:db8::ffff:1'), 429)
    assert.equal(await from('2001:db8:0:1::1'), 401)
  })

  it('guesses that are sent at once are counted like those that are sent one after the other', async () => {
    const own = await startGateway({ AUTH: 'broker' })
    const guess = () => withAuthorization(own, basic(owner.name, randomUUID())).get('/queues/q/messages')
    const statuses = (await Promise.all(Array.from({ length: 40 }, guess))).map(({ status }) => status)
    assert.deepEqual(statuses.sort(), [...new Array(10).fill(401), ...new Array(30).fill(429)])
    await owner.as(own).get('/queues/nowhere/messages').expect(429)
  })

  it('guesses for one user are counted together wherever they come from, and other users still come in', async () => {
    const own = await startGateway({ AUTH: 'broker', TRUST_PROXY: 'loopback' })
    const from = (n: number) => `198.51.${n}.1`
    const statuses: number[] = []
    for (let n = 0; n < 25; n++) {
      const guess = withAuthorization(own, basic(owner.name, randomUUID())).get('/queues/q/messages')
      statuses.push((await guess.set('x-forwarded-for', from(n))).status)
    }
    assert.deepEqual(statuses, [...new Array(20).fill(401), ...new Array(5).fill(429)])
    const other = (await freshUser({ read: '.*' })).as(own)
    await other.get('/queues/nowhere/messages').set('x-forwarded-for', from(100)).expect(404)
  })

  it('guest may come only from this machine, unless LOOPBACK_USERS allows it', async () => {
    const guest = basic('guest', 'guest')
    const elsewhere = '203.0.113.9'
    const own = await startGateway({ AUTH: 'broker', TRUST_PROXY: 'loopback' })
    const open = await startGateway({ AUTH: 'broker', TRUST_PROXY: 'loopback', LOOPBACK_USERS: 'none' })
    const listed = await startGateway({ AUTH: 'broker', TRUST_PROXY: 'loopback', LOOPBACK_USERS: `nobody,${owner.name}` })
    const from = async (at: Gateway, address: string | undefined, authorization = guest) => {
      const request = withAuthorization(at, authorization).get('/queues/nowhere/messages')
      return (await (address === undefined ? request : request.set('x-forwarded-for', address))).status
    }
    // In this order, since the gateway remembers the user after the first.
    for (const address of [undefined, '127.0.0.9', '::1', '::ffff:127.0.0.1'])
      assert.equal(await from(own, address), 404, address)
    for (const address of [elsewhere, '2001:db8::1', '::ffff:10.0.0.1', 'unknown']) {
      const status = await from(own, address)
      assert.equal(status, 401, address)
    }
    assert.equal(await from(open, elsewhere), 404)
    assert.equal(await from(listed, elsewhere), 404)
    assert.equal(await from(listed, elsewhere, basic(owner.name, owner.password)), 401)
    assert.equal(await from(listed, undefined, basic(owner.name, owner.password)), 404)
  })

  it('connections that nobody uses give way to a new user', async () => {
    const own = await startGateway({ AUTH: 'broker', MAX_VHOSTS: '3' })
    const queue = await freshQueue()
    await owner.as(gateway).post(`/queues/${queue}/messages`).send('x').expect(201)
    const holder = await freshUser({ configure: '.*', write: '.*', read: '.*' })
    const { messages } = (await holder.as(own).get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
    // One place after the other is taken; those who hold a lease keep theirs.
    for (let n = 0; n < 3; n++) {
      const user = (await freshUser({ read: '.*' })).as(own)
      await eventually(async () => user.get('/queues/nowhere/messages').expect(404))
      assert.ok(own.app.services.vhosts.all().length <= 3)
    }
    await holder.as(own).post(`/leases/${messages[0].lease.id}/ack`).expect(204)
  })

  it('the connections of an idle user are closed and opened again on demand', async () => {
    const own = await startGateway({ AUTH: 'broker', VHOST_IDLE: '1s' })
    const before = own.app.services.vhosts.all().length
    await owner.as(own).get('/queues/nowhere/messages').expect(404)
    assert.equal(own.app.services.vhosts.all().length, before + 1)
    await eventually(() => assert.equal(own.app.services.vhosts.all().length, before))
    await owner.as(own).get('/queues/nowhere/messages').expect(404)
  })

  it('a changed password ends the access and the leases of the old one', async () => {
    const own = await startGateway({ AUTH: 'broker', BROKER_USER_RECHECK_INTERVAL: '1s' })
    const queue = await freshQueue()
    const user = await freshUser({ configure: '.*', write: '.*', read: '.*' })
    await user.as(own).post(`/queues/${queue}/messages`).send('x').expect(201)
    await user.as(own).get(`/queues/${queue}/messages?wait=2s`).expect(200)
    const connections = () => own.app.services.vhosts.all().length
    assert.equal(connections(), 2)
    await setPassword(user.name, 'another')
    await eventually(async () => user.as(own).get(`/queues/${queue}/messages`).expect(401))
    // The lease was given back when the connections of the user were closed.
    assert.equal(connections(), 1)
    await owner.as(gateway).get(`/queues/${queue}/messages?wait=5s&ack=auto`).expect(200)
    await withAuthorization(own, basic(user.name, 'another')).get(`/queues/${queue}/messages`).expect(200)
  })

  it('an open upload survives the recheck of its user', async () => {
    const own = await startGateway({ AUTH: 'broker', BROKER_USER_RECHECK_INTERVAL: '1s' })
    const queue = await freshQueue()
    const headers = { authorization: basic(owner.name, owner.password), 'content-type': 'application/x-ndjson' }
    const lines = new TransformStream<Uint8Array, Uint8Array>()
    const writer = lines.writable.getWriter()
    const line = () => writer.write(new TextEncoder().encode('{"payload":1}\n'))
    const path = `${own.url}/queues/${queue}/messages/batch`
    const batch = fetch(path, { method: 'POST', headers, body: lines.readable, duplex: 'half' } as RequestInit)
    const empty = await freshQueue()
    void line()
    // Longer than the recheck interval.
    const waiting = own.call('get', `/queues/${empty}/messages?wait=2500ms`).set('authorization', headers.authorization)
    await waiting.expect(200)
    void line()
    void writer.close()
    assert.match(await (await batch).text(), /{"published":2,"failed":0}/)
  })

  it('a user deleted in RabbitMQ is refused with 401', async () => {
    const user = await freshUser({ read: '.*' })
    await user.as(gateway).get('/queues/nowhere/messages').expect(404)
    await management(`users/${user.name}`, { method: 'DELETE' })
    await eventually(async () => user.as(gateway).get('/queues/nowhere/messages').expect(401))
  })
})

describe('leases of RabbitMQ users', () => {
  it('a lease can be settled only by the user who received it, at every instance', async () => {
    const other = await startGateway({ AUTH: 'broker' })
    const stranger = await freshUser({ configure: '.*', write: '.*', read: '.*' })
    const queue = await freshQueue()
    const client = owner.as(gateway)
    for (let n = 0; n < 3; n++) await client.post(`/queues/${queue}/messages`).send(`${n}`).expect(201)
    const { messages } = (await client.get(`/queues/${queue}/messages?max=3&wait=2s`).expect(200)).body
    const [first, second, third] = messages.map(({ lease }: { lease: { id: string } }) => lease.id)
    for (const at of [gateway, other]) {
      const response = await stranger.as(at).post(`/leases/${first}/ack`).expect(403)
      assert.equal(response.body.code, 'access_refused')
      await stranger.as(at).get(`/leases/${first}`).expect(403)
    }
    await owner.as(other).get(`/leases/${first}`).expect(200)
    await owner.as(other).post(`/leases/${first}/ack`).expect(204)
    await client.post(`/leases/${second}/ack`).expect(204)
    await owner.as(other).post(`/leases/${second}/nack`).expect(409)
    const bulk = await owner
      .as(other)
      .post('/leases/settle')
      .send({ ack: [third] })
    assert.equal(bulk.body.failed, 0, bulk.text)
    await eventually(async () => assert.equal((await client.get(`/queues/${queue}`)).body.message_count, 0))
  })

  it('a lease is settled over HTTP if its instance advertises a URL, and strangers are refused there too', async () => {
    const advertising = async () => {
      const PORT = String(await freePort())
      const address = {
        ADVERTISE_URL: `http://127.0.0.1:${PORT}`,
        ADVERTISE_SECRET: 'shared by instances',
        LEASE_SECRET: 'shared by instances',
      }
      return startGateway({ AUTH: 'broker', PORT, ...address })
    }
    const [holder, other] = [await advertising(), await advertising()]
    await knows(other, holder)
    const queue = await freshQueue()
    await owner.as(holder).post(`/queues/${queue}/messages`).send('x').expect(201)
    const { messages } = (await owner.as(holder).get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
    const stranger = await freshUser({ configure: '.*', write: '.*', read: '.*' })
    await stranger.as(other).post(`/leases/${messages[0].lease.id}/ack`).expect(403)
    await owner.as(other).post(`/leases/${messages[0].lease.id}/ack`).expect(204)
    assert.match(await other.app.services.metrics.text(), /^gateway_instance_requests_total\{outcome="answered"\} 1$/m)
  })

  it('a lease whose instance cannot be found is answered with lease_unreachable', async () => {
    const other = await startGateway({ AUTH: 'broker' })
    const queue = await freshQueue()
    await owner.as(other).post(`/queues/${queue}/messages`).send('x').expect(201)
    const { messages } = (await owner.as(other).get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
    await other.close()
    const response = await owner.as(gateway).post(`/leases/${messages[0].lease.id}/ack`).expect(503)
    assert.equal(response.body.code, 'lease_unreachable')
    await owner.as(gateway).get(`/queues/${queue}/messages?wait=5s&ack=auto`).expect(200)
  })
})
