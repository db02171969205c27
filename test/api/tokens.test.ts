// JSON Web Tokens: who is let in by them, and who is not.

import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { exportSPKI, importJWK, SignJWT, UnsecuredJWT } from 'jose'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { startWithKeys, withAuthorization } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { AMQP_URL, freshName, type Gateway, startGateway } from '../support/gateway.js'
import { AUDIENCE, ISSUER, inSeconds, KeySetServer, keySetFile, newKey, token } from '../support/issuer.js'

const key = await newKey('first')
const file = keySetFile(key)
const SETTINGS = { AUTH: 'jwt', JWT_JWKS_FILE: file.path, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }
const gateway = await startGateway(SETTINGS)
const ALL = 'configure:*/* write:*/* read:*/*'
const by = (jwt: string, at: Gateway = gateway) => withAuthorization(at, `Bearer ${jwt}`)
const admin = by(await token(key, ALL))

async function freshQueue(): Promise<string> {
  const queue = freshName('queue')
  await admin.put(`/queues/${queue}`).expect(201)
  gateway.cleanups.push(async () => admin.delete(`/queues/${queue}`))
  return queue
}

async function refused(jwt: string, detail: string, at: Gateway = gateway): Promise<void> {
  const response = await by(jwt, at).get('/queues/q/messages')
  assert.equal(response.status, 401, `${detail}: ${response.text}`)
  assert.equal(response.body.detail, detail)
  assert.equal(response.headers['www-authenticate'], 'Bearer realm="rabbitmq-http-gateway", error="invalid_token"')
  assert.ok(!response.text.includes(jwt.slice(0, 40)))
}
const UNKNOWN = 'The token is invalid.'

describe('a token', () => {
  it('lets in whom its scopes let in, to that and nothing else', async () => {
    const queue = await freshQueue()
    const worker = by(await token(key, `read:%2F/${queue} openid email tag:administrator`))
    await worker.get(`/queues/${queue}/messages`).expect(200)
    await worker.post(`/queues/${queue}/messages`).send('x').expect(403)
    await worker.get('/queues/another/messages').expect(403)
    await worker.delete(`/queues/${queue}`).expect(403)
    const writer = by(await token(key, [`write:%2F/${queue}`]))
    await writer.post(`/queues/${queue}/messages`).send('x').expect(201)
    await writer.get(`/queues/${queue}/messages`).expect(403)
    await by(await token(key, ''))
      .get(`/queues/${queue}`)
      .expect(403)
  })

  it('was made for RabbitMQ, and has its prefix', async () => {
    const queue = await freshQueue()
    await by(await token(key, `${AUDIENCE}.read:%2F/${queue}`))
      .get(`/queues/${queue}/messages`)
      .expect(200)
    await by(await token(key, `another.read:%2F/${queue}`))
      .get(`/queues/${queue}/messages`)
      .expect(403)
    const strict = await startGateway({ ...SETTINGS, JWT_SCOPE_PREFIX: 'api://rabbitmq' })
    for (const [scope, status] of [
      [`api://rabbitmq.read:%2F/${queue}`, 200],
      [`read:%2F/${queue}`, 403],
      [`${AUDIENCE}.read:%2F/${queue}`, 403],
    ] as const) {
      assert.equal((await by(await token(key, scope), strict).get(`/queues/${queue}/messages`)).status, status, scope)
    }
  })

  it('limits the routing keys that may be published with', async () => {
    const exchange = freshName('exchange')
    await admin.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    const writer = by(await token(key, `write:%2F/${exchange}/eu.*`))
    await writer.post(`/exchanges/${exchange}/messages?routing_key=eu.order`).send('x').expect(201)
    await writer.post(`/exchanges/${exchange}/messages?routing_key=us.order`).send('x').expect(403)
    await admin.delete(`/exchanges/${exchange}`).expect(204)
  })

  it('may be the password of anybody, for programs that know only that', async () => {
    const basic = `Basic ${Buffer.from(`anybody:${await token(key, ALL)}`).toString('base64')}`
    await withAuthorization(gateway, basic).get('/queues/nowhere').expect(404)
  })

  it('is over when its time is, and what lasts by it ends', async () => {
    const queue = await freshQueue()
    const short = await token(key, `read:%2F/${queue}`, { exp: inSeconds(2) })
    await by(short).get(`/queues/${queue}/messages`).expect(200)
    await eventually(() => refused(short, 'The token has expired.'))
  })

  it('is refused where a claim is missing or another', async () => {
    await refused(await token(key, ALL, { exp: inSeconds(-1) }), 'The token has expired.')
    await refused(await token(key, ALL, { exp: undefined as never }), 'The token has no claim exp.')
    await refused(await token(key, ALL, { exp: 'tomorrow' as never }), "The token's claim exp has an unexpected value.")
    await refused(await token(key, ALL, { nbf: inSeconds(60) }), 'The token is not valid yet.')
    await refused(await token(key, ALL, { aud: 'somebody' }), "The token's claim aud has an unexpected value.")
    await refused(await token(key, ALL, { aud: undefined as never }), 'The token has no claim aud.')
    await refused(await token(key, ALL, { iss: 'https://another.example' }), "The token's claim iss has an unexpected value.")
  })

  it('is refused where nobody signed it, or somebody else did', async () => {
    const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'worker-1', exp: inSeconds(300), scope: ALL }
    const good = await token(key, ALL)
    const [header, payload, signature] = good.split('.') as [string, string, string]
    const headerOf = (json: object) => Buffer.from(JSON.stringify(json)).toString('base64url')
    const richer = Buffer.from(JSON.stringify({ ...claims, sub: 'root' })).toString('base64url')
    const flipped = `${signature[0] === 'A' ? 'B' : 'A'}${signature.slice(1)}`
    const publicKey = await importJWK(key.publicJwk, 'ES256', { extractable: true })
    const pem = new TextEncoder().encode(await exportSPKI(publicKey as never))
    const raw = new TextEncoder().encode(JSON.stringify(key.publicJwk))
    const hs256 = (secret: Uint8Array) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'HS256', kid: 'first' })
        .sign(new Uint8Array([...secret, ...new Uint8Array(32)]).slice(0, Math.max(32, secret.length)))
    const stranger = await newKey('first')
    for (const jwt of [
      new UnsecuredJWT(claims).encode(),
      `${headerOf({ alg: 'none' })}.${payload}.${signature}`,
      `${headerOf({ alg: 'NONE', kid: 'first' })}.${payload}.`,
      `${headerOf({ alg: 'HS256', kid: 'first' })}.${payload}.${signature}`,
      await hs256(pem),
      await hs256(raw),
      await token(stranger, ALL),
      await token({ ...stranger, kid: 'unknown' }, ALL),
      `${header}.${richer}.${signature}`,
      `${header}.${payload}.${flipped}`,
      `${header}.${payload}.`,
      `${headerOf({ alg: 'ES256', kid: 'first', jwk: stranger.publicJwk })}.${payload}.${signature.slice(2)}AA`,
      `${headerOf({ alg: 'ES256', kid: 'first', crit: ['x'], x: 1 })}.${payload}.${signature}`,
    ]) {
      await refused(jwt, UNKNOWN)
    }
    await by(good).get('/queues/nowhere').expect(404)
  })

  it('is refused where it is no token, or far too long', async () => {
    for (const text of ['a.b.c', '...', 'eyJhbGciOiJub25lIn0..', `${'a'.repeat(50)}.${'b'.repeat(50)}.c`]) {
      assert.equal((await by(text).get('/queues/q')).status, 401, text)
    }
    const long = await token(key, ALL, { more: 'x'.repeat(13_000) })
    const { status } = await by(long).get('/queues/q')
    assert.ok(status === 401 || status === 431, `${status}`)
    const response = await by('a.b.'.padEnd(100_000, 'c')).get('/queues/q')
    assert.ok(response.status === 401 || response.status === 431, `${response.status}`)
  })

  it('never lets its owner set the user of a message', async () => {
    const queue = await freshQueue()
    await admin.post(`/queues/${queue}/messages`).set('amqp-user-id', 'guest').send('x').expect(400)
  })
})

describe('headers of a token', () => {
  it('are on every message of it, whatever its owner says, and a token without them is refused', async () => {
    const own = await startGateway({ ...SETTINGS, JWT_HEADERS: 'x-tenant=tenant, x-who=sub' })
    const queue = await freshQueue()
    const scope = `write:%2F/${queue} read:%2F/${queue}`
    const client = by(await token(key, scope, { tenant: 'acme' }), own)
    await client.post(`/queues/${queue}/messages`).set('amqp-header-X-Tenant', 'other').send('x').expect(201)
    const batch = { messages: [{ payload: 1, properties: { headers: { 'x-tenant': 'other', 'X-WHO': 'me' } } }] }
    await client.post(`/queues/${queue}/messages/batch`).send(batch).expect(200)
    const { messages } = (await client.get(`/queues/${queue}/messages?max=2&ack=auto&wait=2s`).expect(200)).body
    for (const { properties } of messages) assert.deepEqual(properties.headers, { 'x-tenant': 'acme', 'x-who': 'worker-1' })
    await refused(await token(key, scope), 'The token has no usable claim tenant.', own)
    await refused(await token(key, scope, { tenant: { a: 1 } }), 'The token has no usable claim tenant.', own)
  })
})

describe('the keys of tokens', () => {
  it('are replaced while the gateway runs, as a file', async () => {
    const [old, next] = [await newKey('old'), await newKey('next', 'RS256')]
    const keys = keySetFile(old)
    const own = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: keys.path })
    const [first, second] = [await token(old, ALL), await token(next, ALL)]
    await by(first, own).get('/queues/nowhere').expect(404)
    await refused(second, UNKNOWN, own)
    keys.replace(old, next)
    await eventually(async () => by(second, own).get('/queues/nowhere').expect(404))
    await by(first, own).get('/queues/nowhere').expect(404)
    keys.replace(next)
    await eventually(() => refused(first, UNKNOWN, own))
    await by(second, own).get('/queues/nowhere').expect(404)
  })

  it('are looked for at their URL when one is not known, and its absence harms nobody', async () => {
    const [one, two] = [await newKey('one', 'EdDSA'), await newKey('two', 'PS256')]
    const server = await KeySetServer.start(one)
    const own = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: '', JWT_JWKS_URL: server.url })
    const known = await token(one, ALL)
    await by(known, own).get('/queues/nowhere').expect(404)
    await server.goAway()
    await by(known, own).get('/queues/nowhere').expect(404)
    await by(await token(one, ALL, { sub: 'new here' }), own)
      .get('/queues/nowhere')
      .expect(404)
    assert.equal(own.app.services.notReady(), undefined)
    await server.comeBack()
    server.keys = [one, two]
    const fresh = await token(two, ALL)
    await eventually(async () => by(fresh, own).get('/queues/nowhere').expect(404), 20_000)
    // Strangers who name keys that nobody has do not make the gateway ask each time.
    const before = server.asked
    for (let n = 0; n < 20; n++) await refused(await token({ ...two, kid: `unknown-${n}` }, ALL), UNKNOWN, own)
    assert.ok(server.asked - before <= 1, `${server.asked - before} times`)
  })

  it('are not there yet: nobody is told that his token is bad', async () => {
    const one = await newKey('one')
    const server = await KeySetServer.start(one)
    await server.goAway()
    const env = { AMQP_URL, LOG_LEVEL: 'silent', ...SETTINGS, JWT_JWKS_FILE: '', JWT_JWKS_URL: server.url }
    const app = await buildApp(loadConfig(env))
    after(() => app.closeApp())
    const authorization = `Bearer ${await token(one, ALL)}`
    const ask = () => app.http.inject({ url: '/queues/nowhere', headers: { authorization } })
    const response = await ask()
    assert.deepEqual([response.statusCode, response.json().code], [503, 'authority_unavailable'])
    assert.equal((await app.http.inject({ url: '/health/ready' })).statusCode, 503)
    await server.comeBack()
    await eventually(async () => assert.equal((await ask()).statusCode, 404))
    await eventually(async () => assert.equal((await app.http.inject({ url: '/health/ready' })).statusCode, 200))
  })

  it('are not named by a token, and each that fits is tried', async () => {
    const [one, two] = [await newKey('one'), await newKey('two')]
    const own = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: keySetFile(one, two).path })
    const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'x', exp: inSeconds(60), scope: ALL }
    const unnamed = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256' }).sign(two.privateKey)
    await by(unnamed, own).get('/queues/nowhere').expect(404)
    await refused(await new SignJWT(claims).setProtectedHeader({ alg: 'ES256' }).sign(key.privateKey), UNKNOWN, own)
  })
})

describe('keys and tokens', () => {
  it('are taken beside each other', async () => {
    const { gateway: both, client } = await startWithKeys({ ...SETTINGS, AUTH: 'keys,jwt' })
    await client('read:*/*').get('/queues/nowhere').expect(404)
    await by(await token(key, ALL), both)
      .get('/queues/nowhere')
      .expect(404)
    const response = await both.get('/queues/q').expect(401)
    assert.equal(response.body.detail, 'Send a key or token: authorization: Bearer <key or token>.')
  })
})
