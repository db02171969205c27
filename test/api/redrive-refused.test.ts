// Redrives that the gateway refuses, for their input or for the rights of the caller: no message is moved.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { freshName } from '../support/gateway.js'
import { begin, count, ended, kill, numbers, pair, publishAll, redriven, takeAll, texts } from '../support/redrive.js'
import { deleteWith, freshVhost } from '../support/vhost.js'

const vhost = await freshVhost('redrive')
const { gateway, admin, client, file } = await startWithKeys(vhost.env)
const other = await startWithKeys(vhost.env, file)
deleteWith(gateway, vhost)
const right = (kind: string, name: string) => `${kind}:${vhost.name}/${name}`
async function queue(): Promise<string> {
  const name = freshName('queue')
  await admin.put(`/queues/${name}`).expect(201)
  return name
}

describe('invalid redrives', () => {
  it('an invalid redrive is refused with 400, names the member and moves nothing', async () => {
    const from = await queue()
    const to = await queue()
    await publishAll(admin, from, ['x'])
    const long = 'x'.repeat(256)
    const wrong: [body: unknown, pointer: string][] = [
      [{ to: from }, '/body/to'],
      [{ to: { queue: from } }, '/body/to/queue'],
      [{ to: { exchange: 'amq.default', routing_key: from } }, '/body/to/routing_key'],
      [{ to: '' }, '/body/to'],
      [{ to: long }, '/body/to'],
      [{ to: { queue: 'a\nb' } }, '/body/to/queue'],
      [{ to: { exchange: '' } }, '/body/to/exchange'],
      [{ to: { exchange: 'amq.topic', routing_key: long } }, '/body/to/routing_key'],
      [{ to: 1 }, '/body/to'],
      [{ to: {} }, '/body/to'],
      [{ to: { queue: to, exchange: 'amq.topic' } }, '/body/to'],
      [{ to: { routing_key: 'x' } }, '/body/to'],
      [{ to, max: 0 }, '/body/max'],
      [{ to, max: 1.5 }, '/body/max'],
      [{ to, max: '1' }, '/body/max'],
      [{ to, rate: 0 }, '/body/rate'],
      [{ to, rate: -1 }, '/body/rate'],
      [{ to, rate: 10_001 }, '/body/rate'],
      [{ to, filter: {} }, '/body/filter'],
      [{ to, filter: { header: {} } }, '/body/filter/header'],
      [{ to, filter: { header: 'x' } }, '/body/filter/header'],
      [{ to, filter: { header: { x: 'y'.repeat(3000) } } }, '/body/filter'],
      [{ to, filter: { reason: 'bored' } }, '/body/filter/reason'],
      [{ to, filter: { tenant: 'a' } }, '/body/filter/tenant'],
      [{ to, dry_run: 'no' }, '/body/dry_run'],
      [{ to, limit: 1 }, '/body/limit'],
      [[], '/body'],
    ]
    for (const [body, pointer] of wrong) {
      const response = await admin.post(`/queues/${from}/redrive`).send(body as object)
      const what = `${JSON.stringify(body).slice(0, 100)}: ${response.text}`
      assert.deepEqual([response.status, response.body.code], [400, 'invalid_request'], what)
      const pointers = response.body.errors.map((error: { pointer: string }) => error.pointer)
      assert.ok(
        pointers.some((one: string) => one.startsWith(pointer)),
        what,
      )
    }
    assert.deepEqual([await count(admin, from), await count(admin, to)], [1, 0])
    assert.deepEqual((await admin.get('/redrives').expect(200)).body, { redrives: [] })
  })

  it('redrives of missing, stream and reserved queues are refused, and unknown redrives answered with 404', async () => {
    const [from, stream] = [await queue(), freshName('stream')]
    await admin.put(`/queues/${stream}`).send({ type: 'stream' }).expect(201)
    await publishAll(admin, from, ['x'])
    for (const [name, body, status, code] of [
      [freshName(), {}, 404, 'queue_not_found'],
      [freshName(), { to: from }, 404, 'queue_not_found'],
      [from, { to: freshName() }, 404, 'queue_not_found'],
      [from, { to: { exchange: freshName() } }, 404, 'exchange_not_found'],
      [stream, { to: from }, 409, 'stream_queue'],
      ['gateway.definitions', { to: from }, 403, 'access_refused'],
      [from, { to: 'gateway.definitions' }, 403, 'access_refused'],
      [from, { to: { exchange: 'amq.topic', routing_key: 'gateway.definitions' } }, 403, 'access_refused'],
    ] as const) {
      const response = await admin.post(`/queues/${name}/redrive`).send(body)
      assert.deepEqual([response.status, response.body.code], [status, code], `${name} ${JSON.stringify(body)}`)
    }
    for (const id of ['x', 'b2c7d9e0-6a1f-4a55-9d6e-0c7a4f1f3b1e', '%00', '..%2f']) {
      assert.equal((await admin.get(`/redrives/${id}`).expect(404)).body.code, 'redrive_not_found')
      assert.equal((await admin.delete(`/redrives/${id}`).expect(404)).body.code, 'redrive_not_found')
    }
    assert.equal(await count(admin, from), 1)
    await admin.delete(`/queues/${stream}`).expect(204)
  })

  it('a redrive runs in the vhost of its path and is found there and by its id', async () => {
    const fresh = await freshVhost('redrive')
    deleteWith(gateway, fresh)
    const vhost = fresh.name
    const prefix = `/vhosts/${vhost}`
    for (const name of ['a', 'b']) await admin.put(`${prefix}/queues/${name}`).expect(201)
    await admin.post(`${prefix}/queues/a/messages`).send('x').expect(201)
    const { body } = await admin.post(`${prefix}/queues/a/redrive`).send({ to: 'b' }).expect(202)
    assert.equal(body.vhost, vhost)
    assert.equal((await ended(admin, body.id)).moved, 1)
    assert.equal((await admin.get(`${prefix}/redrives/${body.id}`).expect(200)).body.moved, 1)
    assert.equal((await admin.get(`${prefix}/redrives`).expect(200)).body.redrives.length, 1)
    await admin.get(`/vhosts/${encodeURIComponent('/')}/redrives/${body.id}`).expect(404)
    const { redrives } = (await admin.get('/redrives').expect(200)).body
    assert.ok(!redrives.some(({ id }: { id: string }) => id === body.id))
    assert.equal((await admin.get(`${prefix}/queues/b`)).body.message_count, 1)
    const missing = await admin.post('/vhosts/nowhere/queues/a/redrive').send({}).expect(404)
    assert.equal(missing.body.code, 'vhost_not_found')
    await admin.delete(`${prefix}/redrives/${body.id}`).expect(204)
  })
})

describe('rights to redrive', () => {
  it('a redrive needs read on its queue and write on the named target', async () => {
    const [from, to] = [await queue(), await queue()]
    await publishAll(admin, from, ['x'])
    const reader = client(right('read', from), right('write', 'amq.topic/eu.*'))
    for (const body of [
      { to },
      { to: { queue: to } },
      { to: { exchange: 'amq.default', routing_key: to } },
      { to: { exchange: 'amq.topic', routing_key: 'us.ca' } },
      { to: { exchange: 'amq.fanout' } },
    ])
      assert.equal((await reader.post(`/queues/${from}/redrive`).send(body).expect(403)).body.code, 'access_refused')
    const writer = client(right('write', from), right('write', to))
    await writer.post(`/queues/${from}/redrive`).send({ to }).expect(403)
    assert.equal(await count(admin, from), 1)
    assert.equal((await begin(client(right('read', from), right('write', to)), from, { to })).state, 'running')
    assert.equal((await takeAll(admin, to, 1)).length, 1)
  })

  it('a redrive back to the queues of origin needs write on the queue of each message', async () => {
    const [mine, theirs] = [await pair(admin), await pair(admin)]
    await kill(admin, mine, ['a', 'b'])
    await kill(admin, theirs, ['c', 'd'])
    const all = await queue()
    for (const { dead } of [mine, theirs]) {
      // Copies with the x-death header of RabbitMQ, as if both queues had this dead-letter queue.
      const messages = await takeAll(admin, dead, 2)
      for (const { payload, properties } of messages) await publishAll(admin, all, [payload], properties.headers)
    }
    const author = client(right('read', all), right('write', mine.queue))
    const task = await redriven(author, all)
    assert.deepEqual([task.state, task.moved, task.failed], ['done', 2, 2])
    assert.match(task.last_error!, /^access_refused: /)
    assert.ok(!task.last_error!.includes(theirs.queue))
    assert.deepEqual(texts(await takeAll(admin, mine.queue, 2)), ['a', 'b'])
    assert.deepEqual(texts(await takeAll(admin, all, 2)), ['c', 'd'])
    assert.equal(await count(admin, theirs.queue), 0)
  })

  it('a redrive to an exchange needs write for the routing key of each message', async () => {
    const [from, to] = [await queue(), await queue()]
    for (const key of ['eu.de', 'us.ca']) {
      await admin.put(`/exchanges/amq.topic/bindings/queues/${from}?routing_key=${key}`).expect(204)
      await admin.post(`/exchanges/amq.topic/messages?routing_key=${key}`).send(key).expect(201)
    }
    await admin.put(`/exchanges/amq.direct/bindings/queues/${to}?routing_key=eu.de`).expect(204)
    await admin.put(`/exchanges/amq.direct/bindings/queues/${to}?routing_key=us.ca`).expect(204)
    const author = client(right('read', from), right('write', 'amq.direct/eu.*'))
    const task = await redriven(author, from, { to: { exchange: 'amq.direct' } })
    assert.deepEqual([task.moved, task.failed], [1, 1])
    assert.equal(await count(admin, to), 1)
  })

  it('redrives of queues that the caller may not read look like missing ones, at every instance', async () => {
    const [from, to] = [await queue(), await queue()]
    await publishAll(admin, from, numbers(50))
    const { id } = await begin(admin, from, { to, rate: 5 })
    const rights = [right('read', to), right('write', from), right('configure', from)]
    const strangers = [client(...rights), other.clientOf(file.add(rights))]
    for (const stranger of strangers) {
      for (const what of ['get', 'delete'] as const) {
        const refused = await stranger[what](`/redrives/${id}`).expect(404)
        const unknown = await stranger[what](`/redrives/${freshName()}`).expect(404)
        const { request_id: _, instance: __, ...one } = refused.body
        const { request_id: ___, instance: ____, ...another } = unknown.body
        assert.deepEqual(one, another)
      }
      assert.deepEqual((await stranger.get('/redrives').expect(200)).body, { redrives: [] })
    }
    const reader = other.clientOf(file.add([right('read', from)]))
    const { redrives } = (await reader.get('/redrives').expect(200)).body
    assert.deepEqual(
      redrives.filter(({ state }: { state: string }) => state === 'running').map((task: { id: string }) => task.id),
      [id],
    )
    assert.equal('rights' in redrives[0], false)
    await reader.delete(`/redrives/${id}`).expect(204)
    assert.equal((await ended(reader, id)).state, 'stopped')
  })
})
