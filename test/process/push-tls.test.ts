// Subscriptions to an HTTPS endpoint whose certificate comes from a private authority.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { after, it } from 'node:test'
import { createAuthority } from '../support/certificates.js'
import { eventually } from '../support/eventually.js'
import { freshName } from '../support/gateway.js'
import { readyGateway } from '../support/process.js'
import { freshVhost } from '../support/vhost.js'

const authority = createAuthority()
const { cert, key } = authority.issue('endpoint')
const got: string[] = []
const endpoint = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
  let body = ''
  request.setEncoding('utf8').on('data', (text) => {
    body += text
  })
  request.on('end', () => {
    got.push(body)
    response.writeHead(204).end()
  })
})
await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve))
after(() => endpoint.close())
const vhost = await freshVhost('push-tls')
after(vhost.delete)

it('a subscription delivers to an HTTPS endpoint only if NODE_EXTRA_CA_CERTS has its authority', async () => {
  const env = { ...vhost.env, PUSH_ALLOWED_NETWORKS: '127.0.0.0/8' }
  const knowing = await readyGateway({ ...env, NODE_EXTRA_CA_CERTS: authority.cert })
  const url = `https://127.0.0.1:${(endpoint.address() as AddressInfo).port}/hook`
  const ask = async (method: string, path: string, body?: object | string) => {
    const init =
      typeof body === 'object'
        ? { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
        : { body: body ?? null }
    const response = await fetch(`${knowing.url}${path}`, { method, ...init })
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`)
    return response
  }
  const [queue, name] = [freshName(), freshName('subscription')]
  await ask('PUT', `/queues/${queue}`)
  await ask('PUT', `/subscriptions/${name}`, { queue, url })
  await ask('POST', `/queues/${queue}/messages`, 'over TLS')
  await eventually(() => assert.deepEqual(got, ['over TLS']))
  await ask('POST', `/subscriptions/${name}/pause`)
  const stranger = await readyGateway(env)
  const response = await fetch(`${stranger.url}/subscriptions/${name}/test`, { method: 'POST' })
  const { error } = (await response.json()) as { error?: string }
  assert.match(String(error), /certificate/i)
  assert.deepEqual(got, ['over TLS'])
})
