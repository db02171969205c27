// JSON Web Tokens: which requests they authenticate, and the keys that verify them.

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
const SETTINGS = { AUTH: 'jwt', JWT_JWKS_FILE: file.path, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE, JWT_LEEWAY: '0s' }
const gateway = await startGateway(SETTINGS)
const ALL = 'configure:*/* write:*/* read:*/*'
const withToken = (jwt: string, at: Gateway = gateway) => withAuthorization(at, `Bearer ${jwt}`)
const admin = withToken(await token(key, ALL))

async function freshQueue(): Promise<string> {
  const queue = freshName('queue')
  await admin.put(`/queues/${queue}`).expect(201)
  gateway.cleanups.push(async () => admin.delete(`/queues/${queue}`))
  return queue
}

/** Expects a 401 whose detail matches, and which does not repeat the token. */
async function refused(jwt: string, detail: RegExp, at: Gateway = gateway): Promise<void> {
  const response = await withToken(jwt, at).get('/queues/q/messages')
  assert.deepEqual([response.status, response.body.code], [401, 'unauthorized'], `${detail}: ${response.text}`)
  assert.match(response.body.detail, detail)
  assert.equal(response.headers['www-authenticate'], 'Bearer realm="rabbitmq-http-gateway", error="invalid_token"')
  assert.ok(!response.text.includes(jwt.slice(0, 40)))
}
/** A token that is not verified gets one detail, which mentions no claim. */
const UNVERIFIED = /^(?!.*\b(claim|expired|yet)\b)/

describe('authentication with tokens', () => {
  it('a token gives exactly the rights of its scopes', async () => {
    const queue = await freshQueue()
    const worker = withToken(await token(key, `read:%2F/${queue} openid email tag:administrator`))
    await worker.get(`/queues/${queue}/messages`).expect(200)
    await worker.post(`/queues/${queue}/messages`).send('x').expect(403)
    await worker.get('/queues/another/messages').expect(403)
    await worker.delete(`/queues/${queue}`).expect(403)
    const writer = withToken(await token(key, [`write:%2F/${queue}`]))
    await writer.post(`/queues/${queue}/messages`).send('x').expect(201)
    await writer.get(`/queues/${queue}/messages`).expect(403)
    await withToken(await token(key, ''))
      .get(`/queues/${queue}`)
      .expect(403)
  })

  it('scopes may have the prefix of the audience, or must have JWT_SCOPE_PREFIX if it is set', async () => {
    const queue = await freshQueue()
    await withToken(await token(key, `${AUDIENCE}.read:%2F/${queue}`))
      .get(`/queues/${queue}/messages`)
      .expect(200)
    await withToken(await token(key, `another.read:%2F/${queue}`))
      .get(`/queues/${queue}/messages`)
      .expect(403)
    const strict = await startGateway({ ...SETTINGS, JWT_SCOPE_PREFIX: 'api://rabbitmq' })
    for (const [scope, status] of [
      [`api://rabbitmq.read:%2F/${queue}`, 200],
      [`read:%2F/${queue}`, 403],
      [`${AUDIENCE}.read:%2F/${queue}`, 403],
    ] as const) {
      assert.equal((await withToken(await token(key, scope), strict).get(`/queues/${queue}/messages`)).status, status, scope)
    }
  })

  it('the 403 for a token without any right says so', async () => {
    const { body } = await withToken(await token(key, 'openid'))
      .get('/queues/q/messages')
      .expect(403)
    assert.equal(body.code, 'access_refused')
    assert.match(body.detail, /no right at all: its claim scope has none/)
    const other = await withToken(await token(key, 'read:%2F/other'))
      .get('/queues/q/messages')
      .expect(403)
    assert.doesNotMatch(other.body.detail, /no right at all/)
  })

  it('a token that is too long is refused with that reason', async () => {
    const groups = Array.from({ length: 400 }, (_, n) => `11111111-2222-3333-4444-${String(n).padStart(12, '0')}`)
    await refused(await token(key, ALL, { groups }), /longer than 16 KiB/)
  })

  it('a scope can limit the routing keys of an exchange', async () => {
    const exchange = freshName('exchange')
    await admin.put(`/exchanges/${exchange}`).send({ type: 'topic' }).expect(201)
    const writer = withToken(await token(key, `write:%2F/${exchange}/eu.*`))
    await writer.post(`/exchanges/${exchange}/messages?routing_key=eu.order`).send('x').expect(201)
    await writer.post(`/exchanges/${exchange}/messages?routing_key=us.order`).send('x').expect(403)
    await admin.delete(`/exchanges/${exchange}`).expect(204)
  })

  it('a token is accepted as the password of any user name', async () => {
    const basic = `Basic ${Buffer.from(`anybody:${await token(key, ALL)}`).toString('base64')}`
    await withAuthorization(gateway, basic).get('/queues/nowhere').expect(404)
  })

  it('a token is refused once it has expired', async () => {
    const queue = await freshQueue()
    const short = await token(key, `read:%2F/${queue}`, { exp: inSeconds(2) })
    await withToken(short).get(`/queues/${queue}/messages`).expect(200)
    await eventually(() => refused(short, /expired/))
  })

  it('a token with a missing or wrong claim is refused and the claim named', async () => {
    await refused(await token(key, ALL, { exp: inSeconds(-1) }), /expired/)
    await refused(await token(key, ALL, { exp: undefined as never }), /\bexp\b/)
    await refused(await token(key, ALL, { exp: 'tomorrow' as never }), /\bexp\b/)
    await refused(await token(key, ALL, { nbf: inSeconds(60) }), /not valid yet|\bnbf\b/)
    await refused(await token(key, ALL, { aud: 'somebody' }), /\baud\b/)
    await refused(await token(key, ALL, { aud: undefined as never }), /\baud\b/)
    await refused(await token(key, ALL, { iss: 'https://another.example' }), /\biss\b/)
  })

  it('an unsigned, forged or changed token is refused', async () => {
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
      await refused(jwt, UNVERIFIED)
    }
    await withToken(good).get('/queues/nowhere').expect(404)
  })

  it('a malformed or oversized token is refused', async () => {
    for (const text of ['a.b.c', '...', 'eyJhbGciOiJub25lIn0..', `${'a'.repeat(50)}.${'b'.repeat(50)}.c`]) {
      assert.equal((await withToken(text).get('/queues/q')).status, 401, text)
    }
    const long = await token(key, ALL, { more: 'x'.repeat(13_000) })
    const { status } = await withToken(long).get('/queues/q')
    assert.ok(status === 401 || status === 431, `${status}`)
    const response = await withToken('a.b.'.padEnd(100_000, 'c')).get('/queues/q')
    assert.ok(response.status === 401 || response.status === 431, `${response.status}`)
  })

  it('user_id cannot be set with a token', async () => {
    const queue = await freshQueue()
    await admin.post(`/queues/${queue}/messages`).set('amqp-user-id', 'guest').send('x').expect(400)
  })
})

describe('headers of a token', () => {
  it('every message of a token carries JWT_HEADERS, and a token without these claims is refused', async () => {
    const own = await startGateway({ ...SETTINGS, JWT_HEADERS: 'x-tenant=tenant, x-who=sub' })
    const queue = await freshQueue()
    const scope = `write:%2F/${queue} read:%2F/${queue}`
    const client = withToken(await token(key, scope, { tenant: 'acme' }), own)
    await client.post(`/queues/${queue}/messages`).set('amqp-header-X-Tenant', 'other').send('x').expect(201)
    const batch = { messages: [{ payload: 1, properties: { headers: { 'x-tenant': 'other', 'X-WHO': 'me' } } }] }
    await client.post(`/queues/${queue}/messages/batch`).send(batch).expect(200)
    const { messages } = (await client.get(`/queues/${queue}/messages?max=2&ack=auto&wait=2s`).expect(200)).body
    for (const { properties } of messages) assert.deepEqual(properties.headers, { 'x-tenant': 'acme', 'x-who': 'worker-1' })
    await refused(await token(key, scope), /\btenant\b/, own)
    await refused(await token(key, scope, { tenant: { a: 1 } }), /\btenant\b/, own)
  })
})

describe('keys that verify tokens', () => {
  it('the gateway reads a changed key set file', async () => {
    const [old, next] = [await newKey('old'), await newKey('next', 'RS256')]
    const keys = keySetFile(old)
    const own = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: keys.path })
    const [first, second] = [await token(old, ALL), await token(next, ALL)]
    await withToken(first, own).get('/queues/nowhere').expect(404)
    await refused(second, UNVERIFIED, own)
    keys.replace(old, next)
    await eventually(async () => withToken(second, own).get('/queues/nowhere').expect(404))
    await withToken(first, own).get('/queues/nowhere').expect(404)
    keys.replace(next)
    await eventually(() => refused(first, UNVERIFIED, own))
    await withToken(second, own).get('/queues/nowhere').expect(404)
  })

  it('an unknown key is fetched from JWT_JWKS_URL, at most every ten seconds, and known keys survive its outage', async (t) => {
    const [one, two] = [await newKey('one', 'EdDSA'), await newKey('two', 'PS256')]
    const server = await KeySetServer.start(one)
    const own = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: '', JWT_JWKS_URL: server.url })
    const known = await token(one, ALL)
    await withToken(known, own).get('/queues/nowhere').expect(404)
    await server.goAway()
    await withToken(known, own).get('/queues/nowhere').expect(404)
    await withToken(await token(one, ALL, { sub: 'new here' }), own)
      .get('/queues/nowhere')
      .expect(404)
    assert.equal(own.app.services.notReady(), undefined)
    await server.comeBack()
    server.keys = [one, two]
    const fresh = await token(two, ALL)
    const real = performance.now.bind(performance)
    t.mock.method(performance, 'now', () => real() + 10_000)
    await withToken(fresh, own).get('/queues/nowhere').expect(404)
    // Tokens with unknown key ids do not cause further requests.
    const before = server.asked
    for (let n = 0; n < 20; n++) await refused(await token({ ...two, kid: `unknown-${n}` }, ALL), UNVERIFIED, own)
    assert.ok(server.asked - before <= 1, `${server.asked - before} times`)
  })

  it('while no keys could be fetched yet, tokens are answered with 503 and the gateway is not ready', async () => {
    const one = await newKey('one')
    const server = await KeySetServer.start(one)
    await server.goAway()
    const env = { AMQP_URL, LOG_LEVEL: 'silent', ...SETTINGS, JWT_JWKS_FILE: '', JWT_JWKS_URL: server.url }
    const app = await buildApp(loadConfig(env))
    after(() => app.close())
    const authorization = `Bearer ${await token(one, ALL)}`
    const send = () => app.http.inject({ url: '/queues/nowhere', headers: { authorization } })
    const response = await send()
    assert.deepEqual([response.statusCode, response.json().code], [503, 'authority_unavailable'])
    assert.equal((await app.http.inject({ url: '/health/ready' })).statusCode, 503)
    await server.comeBack()
    await eventually(async () => assert.equal((await send()).statusCode, 404))
    await eventually(async () => assert.equal((await app.http.inject({ url: '/health/ready' })).statusCode, 200))
  })

  it('a token without a key id is verified with every suitable key', async () => {
    const [one, two] = [await newKey('one'), await newKey('two')]
    const own = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: keySetFile(one, two).path })
    const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'x', exp: inSeconds(60), scope: ALL }
    const unnamed = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256' }).sign(two.privateKey)
    await withToken(unnamed, own).get('/queues/nowhere').expect(404)
    await refused(await new SignJWT(claims).setProtectedHeader({ alg: 'ES256' }).sign(key.privateKey), UNVERIFIED, own)
  })
})

describe('keys and tokens together', () => {
  it('a gateway with AUTH=keys,jwt accepts API keys and tokens', async () => {
    const { gateway: both, client } = await startWithKeys({ ...SETTINGS, AUTH: 'keys,jwt' })
    await client('read:*/*').get('/queues/nowhere').expect(404)
    await withToken(await token(key, ALL), both)
      .get('/queues/nowhere')
      .expect(404)
    const response = await both.get('/queues/q').expect(401)
    assert.match(response.body.detail, /\bkey\b.*\btoken\b/)
  })
})
