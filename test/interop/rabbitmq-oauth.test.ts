// RabbitMQ with its OAuth 2 plugin: a token for it works with AUTH=broker and with AUTH=jwt.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { exportSPKI, importJWK } from 'jose'
import { startBroker } from '../../scripts/broker.mjs'
import { type Client, withAuthorization } from '../support/access.js'
import { freshName, type Gateway, startGateway } from '../support/gateway.js'
import { AUDIENCE, ISSUER, inSeconds, keySetFile, newKey, token } from '../support/issuer.js'

const key = await newKey('first', 'RS256')
const dir = mkdtempSync(join(tmpdir(), 'gateway-oauth-'))
const pem = join(dir, 'first.pem')
writeFileSync(pem, await exportSPKI((await importJWK(key.publicJwk, 'RS256', { extractable: true })) as never))
const broker = await startBroker({
  dir,
  plugins: ['rabbitmq_auth_backend_oauth2'],
  config: [
    'auth_backends.1 = rabbit_auth_backend_oauth2',
    'auth_backends.2 = internal',
    `auth_oauth2.resource_server_id = ${AUDIENCE}`,
    `auth_oauth2.signing_keys.first = ${pem}`,
    'auth_oauth2.default_key = first',
    'auth_oauth2.algorithms.1 = RS256',
  ].join('\n'),
})
after(async () => {
  await broker.kill()
  rmSync(dir, { recursive: true, force: true })
})
const own = { AMQP_URL: broker.url }
const byBroker = await startGateway({ ...own, AUTH: 'broker' })
const JWT = { AUTH: 'jwt', JWT_JWKS_FILE: keySetFile(key).path, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }
const byGateway = await startGateway({ ...own, ...JWT })
const withToken = (gateway: Gateway, jwt: string) => withAuthorization(gateway, `Bearer ${jwt}`)

describe("tokens for RabbitMQ's OAuth 2 plugin", () => {
  const queue = freshName('orders')
  const scopes = [`configure:%2F/${queue}`, `write:%2F/amq.default`, `read:%2F/${queue}`].map((one) => `${AUDIENCE}.${one}`)

  for (const [way, gateway] of [
    ['AUTH=broker', byBroker],
    ['AUTH=jwt', byGateway],
  ] as const) {
    it(`a token gives exactly the rights of its scopes with ${way}`, async () => {
      const worker = withToken(gateway, await token(key, scopes))
      await worker.put(`/queues/${queue}`).expect(201)
      await worker.post(`/queues/${queue}/messages`).send('x').expect(201)
      const { messages } = (await worker.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
      // A renewed token has the same owner.
      const renewed = withToken(gateway, await token(key, scopes, { jti: 'renewed' }))
      await renewed.post(`/leases/${messages[0].lease.id}/ack`).expect(204)
      await worker.put('/queues/another').expect(403)
      await worker.get('/queues/another/messages').expect(403)
      await worker.delete(`/queues/${queue}`).expect(204)
    })

    it(`a token that is expired, for another audience or of another issuer is refused with ${way}`, async () => {
      const stranger = await newKey('first', 'RS256')
      for (const jwt of [
        await token(key, scopes, { exp: inSeconds(-5) }),
        await token(key, scopes, { aud: 'somebody' }),
        await token(stranger, scopes),
      ]) {
        assert.equal((await withToken(gateway, jwt).get(`/queues/${queue}/messages`)).status, 401)
      }
    })
  }

  it('a token as the password of HTTP Basic is who it says, under any user name', async () => {
    const { username, password } = byBroker.app.services.config.AMQP_URL[0]!
    const basic = (user: string, secret: string) =>
      withAuthorization(byBroker, `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`)
    const victim = basic(username, password)
    await victim.put(`/queues/${queue}`).expect(201)
    for (const body of ['1', '2']) await victim.post(`/queues/${queue}/messages`).send(body).expect(201)
    const own = await token(key, scopes)
    const receive = async (client: Client): Promise<string> =>
      (await client.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body.messages[0].lease.id
    const [theirs, mine] = [await receive(victim), await receive(withToken(byBroker, own))]
    const places = byBroker.app.services.vhosts.all().length
    for (const name of [username, 'anybody', '']) {
      await basic(name, own).get(`/leases/${theirs}`).expect(403)
      await basic(name, own).post(`/leases/${theirs}/ack`).expect(403)
      await basic(name, own).get(`/leases/${mine}`).expect(200)
      const other = await token(key, scopes, { sub: `user ${username}` })
      await basic(name, other).get(`/leases/${theirs}`).expect(403)
    }
    // Every name of a token shares its connections; the other token has its own.
    assert.equal(byBroker.app.services.vhosts.all().length, places)
    await victim.post(`/leases/${theirs}/ack`).expect(204)
    await withToken(byBroker, own).post(`/leases/${mine}/ack`).expect(204)
    await victim.delete(`/queues/${queue}`).expect(204)
  })

  it('a lease received with a token cannot be settled with the token of another subject', async () => {
    const worker = withToken(byBroker, await token(key, scopes))
    await worker.put(`/queues/${queue}`).expect(201)
    await worker.post(`/queues/${queue}/messages`).send('x').expect(201)
    const { messages } = (await worker.get(`/queues/${queue}/messages?wait=2s`).expect(200)).body
    const other = withToken(byBroker, await token(key, scopes, { sub: 'worker-2' }))
    await other.post(`/leases/${messages[0].lease.id}/ack`).expect(403)
    await worker.post(`/leases/${messages[0].lease.id}/ack`).expect(204)
    await worker.delete(`/queues/${queue}`).expect(204)
  })
})
