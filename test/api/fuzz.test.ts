// Generated requests, valid and invalid in every part, from the OpenAPI document, in a separate vhost. Every response is one
// that the document declares, never a 5xx, and no broker connection is lost.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { violations } from '../support/contract.js'
import { eventually } from '../support/eventually.js'
import { allConnections, brokerConnections } from '../support/expect-refused.js'
import { AMQP_URL, startGateway } from '../support/gateway.js'
import { type RawRequest, rawClient } from '../support/http.js'
import { management } from '../support/management.js'
import { A_LEASE, anyRequest } from '../support/requests.js'

const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_123)
const WORKERS = 8
const CASES_PER_WORKER = 500
const TIME_MS = 50_000

const vhost = `fuzz-${process.pid}`
const url = new URL(AMQP_URL)
const user = decodeURIComponent(url.username || 'guest')
url.pathname = `/${vhost}`
await management(`vhosts/${vhost}`, { method: 'PUT' })
after(() => management(`vhosts/${vhost}`, { method: 'DELETE' }))
const everything = { configure: '.*', write: '.*', read: '.*' }
await management(`permissions/${vhost}/${encodeURIComponent(user)}`, { method: 'PUT', body: JSON.stringify(everything) })
const gateway = await startGateway({ AMQP_URL: url.href })
const client = rawClient(gateway.url, WORKERS)
after(client.close)

describe('generated requests', () => {
  it('every generated request gets a documented response below 500 and breaks nothing', async () => {
    const before = await allConnections()
    const leases: string[] = []
    const failures: string[] = []
    const statuses = new Map<number, number>()
    const end = Date.now() + TIME_MS
    let done = 0

    async function work(owner: string, seed: number): Promise<void> {
      for (const [name, type] of [
        ['a', 'classic'],
        ['b', 'quorum'],
        ['c', 'stream'],
      ]) {
        await gateway.put(`/queues/${owner}.${name}`).send({ type }).expect(201)
      }
      for (const made of fc.sample(anyRequest(owner, vhost), { seed, numRuns: CASES_PER_WORKER })) {
        if (Date.now() > end || failures.length >= 10) return
        // One of the last five, so that some are settled or of deleted queues.
        const id = leases.at(-1 - (done % 5)) ?? A_LEASE
        const body = typeof made.body === 'string' ? made.body.replaceAll(A_LEASE, id) : made.body
        await check({ ...made, path: made.path.replace(A_LEASE, id), body })
        done++
      }
    }

    async function check(request: RawRequest): Promise<void> {
      const { method, path } = request
      const what = JSON.stringify({ ...request, body: request.body?.toString() }).slice(0, 2000)
      const { status, headers, text, body } = await client.send(request).catch((error: Error) => {
        throw new Error(`seed ${SEED}: ${error.message}: ${what}`, { cause: error })
      })
      // A raw message has the content type of its publisher.
      const raw = 'amqp-routing-key' in headers
      const contentType = raw ? 'application/octet-stream' : (headers['content-type'] ?? '')
      const wrong = violations({ method, path, status, contentType, body })
      const silence = status === 504 && (body as { code: string }).code === 'rpc_timeout' // no worker replies
      if (status >= 500 && !silence) wrong.push(`a ${status}`)
      if (!headers['x-request-id'] || headers['cache-control'] !== 'no-store') wrong.push('a header is missing')
      if (status >= 400 && text.length > 50_000) wrong.push(`a problem of ${text.length} bytes`)
      if (wrong.length > 0) failures.push(`${wrong.join('; ')}: ${what} -> ${text.slice(0, 500)}`)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      if (typeof headers['lease-id'] === 'string') leases.push(headers['lease-id'])
      if (raw || status !== 200) return
      for (const { lease } of (body as { messages?: { lease?: { id: string } }[] }).messages ?? [])
        if (lease) leases.push(lease.id)
    }

    await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(`w${worker}`, SEED + worker)))
    assert.ok(failures.length === 0, `seed ${SEED}\n${failures.join('\n')}`)
    assert.ok(done >= 1000, `only ${done} requests in ${TIME_MS} ms`)
    // A good part of the requests was accepted.
    const seen = JSON.stringify([...statuses])
    assert.ok(leases.length >= 20, `${leases.length} leases, ${seen}`)
    await eventually(async () => assert.deepEqual(await brokerConnections(), before))

    const queue = `end-${process.pid}`
    await gateway.put(`/queues/${queue}`).expect(201)
    await gateway.post(`/queues/${queue}/messages`).type('text/plain').send('still here').expect(201)
    const received = await gateway.get(`/queues/${queue}/messages?ack=auto`).expect(200)
    assert.equal(received.body.messages[0].payload, 'still here')
  })
})
