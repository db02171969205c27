// Every route against every right. The table below must list each route, so that a new one cannot be forgotten.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { startWithKeys } from '../support/access.js'
import { freshName } from '../support/gateway.js'
import { rawClient } from '../support/http.js'

type Right = 'configure' | 'write' | 'read'
/**
 * Sets of rights, each of which is sufficient; or `open` without authentication, `known` for every authenticated client, or
 * `instance` for other instances only.
 */
type Required = Right[][] | 'open' | 'known' | 'instance'

const REQUIRED: Record<string, Required> = {
  'POST /queues/:queue/messages': [['write']],
  'POST /exchanges/:exchange/messages': [['write']],
  'POST /queues/:queue/messages/batch': [['write']],
  'POST /exchanges/:exchange/messages/batch': [['write']],
  'POST /queues/:queue/rpc': [['write']],
  'POST /exchanges/:exchange/rpc': [['write']],
  'GET /queues/:queue/messages': [['read']],
  'POST /queues/:queue/messages/receive': [['read']],
  'GET /queues/:queue/stream': [['read']],
  'POST /queues/:queue/stream/ticket': [['read']],
  'POST /leases/:id/ack': [['read']],
  'POST /leases/:id/nack': [['read']],
  'POST /leases/:id/extend': [['read']],
  'GET /leases/:id': [['read']],
  'POST /leases/settle': 'known',
  'PUT /queues/:queue': [['configure']],
  'GET /queues/:queue': [['configure'], ['write'], ['read']],
  'DELETE /queues/:queue': [['configure']],
  'DELETE /queues/:queue/messages': [['configure'], ['read']],
  'PUT /queues/:queue/retry-policy': [['configure']],
  'GET /queues/:queue/retry-policy': [['configure'], ['write'], ['read']],
  'DELETE /queues/:queue/retry-policy': [['configure']],
  'PUT /exchanges/:exchange': [['configure']],
  'GET /exchanges/:exchange': [['configure'], ['write'], ['read']],
  'DELETE /exchanges/:exchange': [['configure']],
  'PUT /exchanges/:exchange/bindings/queues/:queue': [['read', 'write']],
  'DELETE /exchanges/:exchange/bindings/queues/:queue': [['read', 'write']],
  'PUT /exchanges/:exchange/bindings/exchanges/:destination': [['read', 'write']],
  'DELETE /exchanges/:exchange/bindings/exchanges/:destination': [['read', 'write']],
  'POST /queues/:queue/redrive': [['read']],
  'GET /redrives': 'known',
  'GET /redrives/:id': 'known',
  'DELETE /redrives/:id': 'known',
  'PUT /subscriptions/:name': [['configure', 'read']],
  'GET /subscriptions': 'known',
  'GET /subscriptions/:name': [['configure']],
  'DELETE /subscriptions/:name': [['configure']],
  'POST /subscriptions/:name/pause': [['configure']],
  'POST /subscriptions/:name/resume': [['configure']],
  'POST /subscriptions/:name/test': [['configure']],
  'GET /health/live': 'open',
  'HEAD /health/live': 'open',
  'GET /health/ready': 'open',
  'HEAD /health/ready': 'open',
  'GET /metrics': 'open',
  'POST /internal/leases': 'instance',
}
const SETS: Right[][] = [[], ['configure'], ['write'], ['read'], ['read', 'write'], ['configure', 'write', 'read']]

const { gateway, file, admin, clientOf } = await startWithKeys({
  DOCS: 'off',
  ADVERTISE_URL: 'http://127.0.0.1:1',
  ADVERTISE_SECRET: 'the secret of instances',
  LEASE_SECRET: 'the secret of leases',
})
const names = {
  queue: freshName('queue'),
  exchange: freshName('exchange'),
  destination: freshName('destination'),
  name: freshName('name'),
}
const client = rawClient(gateway.url)
after(client.close)
gateway.cleanups.push(async () => {
  await admin.delete(`/queues/${names.queue}`)
  await admin.delete(`/subscriptions/${names.name}`)
  for (const name of [names.exchange, names.destination]) await admin.delete(`/exchanges/${name}`)
})

/** Declares everything that the requests use and resolves with the id of a lease. */
async function setUp(): Promise<string> {
  await admin.put(`/queues/${names.queue}`)
  for (const name of [names.exchange, names.destination]) await admin.put(`/exchanges/${name}`).send({ type: 'topic' })
  await admin.post(`/queues/${names.queue}/messages`).send('x').expect(201)
  const { body } = await admin.get(`/queues/${names.queue}/messages?wait=5s`).expect(200)
  return body.messages[0].lease.id
}

const BODIES: Record<string, object> = {
  'POST /queues/:queue/messages/batch': { messages: [{ payload: 1 }] },
  'POST /exchanges/:exchange/messages/batch': { messages: [{ payload: 1 }] },
  'PUT /exchanges/:exchange': { type: 'topic' },
  'POST /leases/settle': { ack: [] },
  'POST /queues/:queue/redrive': { dry_run: true },
  'PUT /subscriptions/:name': { queue: names.queue, url: 'https://endpoint.invalid/', paused: true },
}

async function send(route: string, lease: string, prefix: string, key?: string): Promise<{ status: number; code?: string }> {
  const [method, url] = route.split(' ') as [string, string]
  const path = url.replace(/:(\w+)/g, (_, name) => (name === 'id' ? lease : names[name as keyof typeof names]))
  const body = BODIES[route]
  const response = await client.send({
    method,
    path: `${prefix}${path}${/\/rpc$/.test(path) ? '?timeout=20ms' : ''}`,
    headers: { ...(key && { authorization: `Bearer ${key}` }), ...(body && { 'content-type': 'application/json' }) },
    body: body && JSON.stringify(body),
    leave: /\/stream$/.test(path),
  })
  return { status: response.status, code: (response.body as { code?: string } | undefined)?.code ?? '' }
}

/** The routes without their copies under /vhosts. */
const routes = () => {
  const all = gateway.app.services.authentication.protectedRoutes.map(({ method, url }) => `${method} ${url}`)
  return all.filter((route) => !route.includes(' /vhosts/:vhost/'))
}

describe('the table of rights', () => {
  it('the table of rights lists exactly the routes of the gateway', () => {
    assert.deepEqual(routes().sort(), Object.keys(REQUIRED).sort())
  })

  it('each route requires the same rights under /vhosts', () => {
    const { protectedRoutes: all } = gateway.app.services.authentication
    for (const { method, url, requirement } of all) {
      if (/^\/(health|metrics|internal)/.test(url) || url.startsWith('/vhosts/')) continue
      const other = all.find((one) => one.method === method && one.url === `/vhosts/:vhost${url}`)
      assert.equal(other?.requirement.description, requirement.description, `${method} ${url}`)
    }
  })
})

for (const [route, required] of Object.entries(REQUIRED)) {
  describe(route, () => {
    it(`${route} ${required === 'open' ? 'needs no authentication' : 'refuses an unauthenticated request'}`, async () => {
      const { status, code } = await send(route, await setUp(), '')
      if (required === 'open') assert.equal(status, 200)
      else assert.deepEqual({ status, code }, { status: 401, code: 'unauthorized' })
    })

    if (required === 'instance') {
      it(`${route} refuses a client with all rights`, async () => {
        const key = file.add(['configure:*/*', 'write:*/*', 'read:*/*'])
        clientOf(key)
        assert.deepEqual(await send(route, await setUp(), '', key), { status: 401, code: 'unauthorized' })
      })
      return
    }

    for (const set of SETS) {
      const enough = typeof required === 'string' || required.some((needed) => needed.every((right) => set.includes(right)))
      it(`${route} ${enough ? 'accepts' : 'refuses'} a key with ${set.join(', ') || 'no rights'}`, async () => {
        const key = file.add(set.flatMap((right) => Object.values(names).map((name) => `${right}:%2F/${name}`)))
        clientOf(key)
        for (const prefix of required === 'open' ? [''] : ['', '/vhosts/%2F']) {
          const { status, code } = await send(route, await setUp(), prefix, key)
          if (enough) assert.ok(status !== 401 && status !== 403, `${status} ${code}`)
          else assert.deepEqual({ status, code }, { status: 403, code: 'access_refused' })
        }
      })
    }

    if (typeof required === 'string') return
    it(`${route} refuses a key with all rights on other names and in other vhosts`, async () => {
      const others = ['other', `${names.queue}x`, names.queue.slice(0, -1), names.queue.toUpperCase()]
      const key = file.add(
        ['configure', 'write', 'read'].flatMap((right) => [
          ...others.map((name) => `${right}:%2F/${name}`),
          `${right}:other/*`,
          `${right}:%252F/*`,
        ]),
      )
      clientOf(key)
      assert.equal((await send(route, await setUp(), '', key)).status, 403)
    })
  })
}
