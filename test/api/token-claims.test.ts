// Tokens as identity providers make them: rights in their claims, keys that change under the same name, clocks that differ.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type JWTPayload, SignJWT } from 'jose'
import { withAuthorization } from '../support/access.js'
import { eventually } from '../support/eventually.js'
import { freshFile } from '../support/files.js'
import { type Gateway, startGateway } from '../support/gateway.js'
import { AUDIENCE, ISSUER, inSeconds, KeySetServer, keySet, keySetFile, newKey, token } from '../support/issuer.js'

const key = await newKey('first', 'RS256')
const SETTINGS = { AUTH: 'jwt', JWT_JWKS_FILE: keySetFile(key).path, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }

/** A token with exactly these claims beside the standard ones. */
const tokenWith = (claims: JWTPayload) => token(key, undefined as never, claims)

async function statusOf(gateway: Gateway, jwt: string): Promise<number> {
  return (await withAuthorization(gateway, `Bearer ${jwt}`).get('/queues/nowhere')).status
}

/** What docs/access.md recommends for each provider, and a token in its form. */
const PROVIDERS: { name: string; settings: Record<string, string>; claims: JWTPayload }[] = [
  {
    name: 'Entra, delegated permissions',
    settings: { JWT_SCOPE_CLAIMS: 'scp,roles', JWT_SCOPE_ALIASES: 'Queues.Read=read:*/*' },
    claims: { ver: '2.0', tid: 't', azp: 'client', scp: 'openid Queues.Read' },
  },
  {
    name: 'Entra, application roles',
    settings: { JWT_SCOPE_CLAIMS: 'scp,roles', JWT_SCOPE_ALIASES: 'Queues.Read=read:*/*' },
    claims: { ver: '2.0', idtyp: 'app', azp: 'client', roles: ['Other.Role', 'Queues.Read'] },
  },
  {
    name: 'Auth0 with RBAC',
    settings: { JWT_SCOPE_CLAIMS: 'permissions' },
    claims: { azp: 'client', gty: 'client-credentials', scope: 'openid', permissions: ['read:*/*', 'write:%2F/orders'] },
  },
  {
    name: 'Auth0, a custom claim with dots in its name',
    settings: { JWT_SCOPE_CLAIMS: 'https://shop.example/roles', JWT_SCOPE_ALIASES: 'worker=read:*/*' },
    claims: { 'https://shop.example/roles': ['worker'] },
  },
  {
    name: 'Keycloak, roles of a client',
    settings: { JWT_SCOPE_CLAIMS: 'resource_access.gateway.roles', JWT_SCOPE_ALIASES: 'queue reader=read:*/*; worker=write:*/*' },
    claims: {
      typ: 'Bearer',
      scope: 'email',
      resource_access: { account: { roles: ['x'] }, gateway: { roles: ['queue reader'] } },
    },
  },
  {
    name: 'Keycloak, a client with a dot in its name, and roles of the realm',
    settings: { JWT_SCOPE_CLAIMS: 'realm_access.roles,resource_access.my.gateway.roles' },
    claims: { realm_access: { roles: ['offline_access'] }, resource_access: { 'my.gateway': { roles: ['read:*/*'] } } },
  },
  {
    name: 'Keycloak, permissions of its authorization services',
    settings: { JWT_SCOPE_CLAIMS: 'authorization.permissions.scopes' },
    claims: {
      authorization: {
        permissions: [
          { rsname: 'a', scopes: [] },
          { rsname: 'b', scopes: ['read:*/*'] },
        ],
      },
    },
  },
  {
    name: 'UAA',
    settings: { JWT_SCOPE_CLAIMS: 'scope' },
    claims: { client_id: 'client', grant_type: 'client_credentials', scope: ['uaa.resource', `${AUDIENCE}.read:*/*`] },
  },
  {
    name: 'Cognito, a resource server',
    settings: { JWT_SCOPE_PREFIX: 'gateway/' },
    claims: { token_use: 'access', client_id: 'c', scope: 'gateway/read:*/* aws.cognito.signin.user.admin' },
  },
  {
    name: 'Cognito, groups',
    settings: { JWT_SCOPE_CLAIMS: 'cognito:groups', JWT_SCOPE_ALIASES: 'workers=read:*/* write:*/*' },
    claims: { token_use: 'access', 'cognito:groups': ['workers'] },
  },
]

describe('the claims of a token', () => {
  for (const { name, settings, claims } of PROVIDERS) {
    it(`a token of ${name} has its rights by the settings of its recipe`, async () => {
      const gateway = await startGateway({ ...SETTINGS, ...settings })
      assert.equal(await statusOf(gateway, await tokenWith(claims)), 404)
      const response = await withAuthorization(gateway, `Bearer ${await tokenWith({})}`).get('/queues/nowhere')
      assert.equal(response.status, 403, 'a token without these claims')
    })
  }

  it('only the claims that are named count', async () => {
    const gateway = await startGateway(SETTINGS)
    for (const claims of [
      { roles: ['read:*/*'] },
      { scp: 'read:*/*' },
      { permissions: ['read:*/*'] },
      { 'scope.x': 'read:*/*' },
      { scope: { x: 'read:*/*' } },
      { scope: 7 },
      { scope: [7, null, ['x']] },
    ] as JWTPayload[])
      assert.equal(await statusOf(gateway, await tokenWith(claims)), 403, JSON.stringify(claims))
    assert.equal(await statusOf(gateway, await tokenWith({ scope: 'read:*/*' })), 404)
  })

  it('an alias stands for its rights and no others, and a scope that is no right and no alias for none', async () => {
    const gateway = await startGateway({
      ...SETTINGS,
      JWT_SCOPE_CLAIMS: 'roles',
      JWT_SCOPE_ALIASES: 'reader=read:%2F/jobs write:%2F/results',
    })
    const client = withAuthorization(gateway, `Bearer ${await tokenWith({ roles: ['reader', 'constructor', '__proto__'] })}`)
    await client.get('/queues/jobs/messages').expect(404)
    await client.post('/queues/results/messages').send('x').expect(404)
    await client.get('/queues/others/messages').expect(403)
    await client.put('/queues/jobs').expect(403)
    assert.equal(await statusOf(gateway, await tokenWith({ roles: ['constructor', 'toString'] })), 403)
  })

  it('a mistake in JWT_SCOPE_ALIASES keeps the gateway from starting, and is named', async () => {
    for (const aliases of ['worker', 'worker=', '=read:*/*', 'a=read:*/*;a=read:*/*', 'worker=consume:x/y'])
      await assert.rejects(startGateway({ ...SETTINGS, JWT_SCOPE_ALIASES: aliases }), /JWT_SCOPE_ALIASES/, aliases)
  })

  it('the 403 for a token without any right says so, and where they were looked for', async () => {
    const gateway = await startGateway({ ...SETTINGS, JWT_SCOPE_CLAIMS: 'scp,roles' })
    const strict = await startGateway({ ...SETTINGS, JWT_SCOPE_PREFIX: 'api://x.' })
    const detailOf = async (at: Gateway, jwt: string) => {
      const { body } = await withAuthorization(at, `Bearer ${jwt}`).get('/queues/nowhere').expect(403)
      assert.equal(body.code, 'access_refused')
      return body.detail as string
    }
    assert.match(
      await detailOf(gateway, await tokenWith({ scope: 'read:*/*' })),
      /no right at all: none of its claims scp, roles has one\.$/,
    )
    assert.match(
      await detailOf(strict, await tokenWith({ scope: 'read:*/*' })),
      /no right at all: its claim scope has none with the prefix api:\/\/x\.\.$/,
    )
    assert.doesNotMatch(await detailOf(gateway, await tokenWith({ roles: ['read:%2F/others'] })), /no right at all/)
  })

  it('a token that is too long is refused with that reason', async () => {
    const gateway = await startGateway(SETTINGS)
    const long = await tokenWith({
      groups: Array.from({ length: 400 }, (_, n) => `11111111-2222-3333-4444-${String(n).padStart(12, '0')}`),
    })
    assert.ok(long.length > 16 * 1024)
    const { body } = await withAuthorization(gateway, `Bearer ${long}`).get('/queues/nowhere').expect(401)
    assert.match(body.detail, /longer than 16 KiB/)
  })
})

describe('the keys of tokens', () => {
  /** A token without a `kid`. */
  const nameless = (by: typeof key) =>
    new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: 's', exp: inSeconds(300), scope: 'read:*/*' })
      .setProtectedHeader({ alg: by.alg })
      .sign(by.privateKey)

  it('a new key under the name of an old one, or under none, is fetched for the first token that it signed', async () => {
    const [old, next, third] = [
      await newKey('legacy-token-key', 'RS256'),
      await newKey('legacy-token-key', 'RS256'),
      await newKey('other', 'RS256'),
    ]
    const server = await KeySetServer.start(old)
    const { JWT_JWKS_FILE: _, ...settings } = SETTINGS
    const gateway = await startGateway({ ...settings, JWT_JWKS_URL: server.url })
    assert.equal(await statusOf(gateway, await token(old, 'read:*/*')), 404)
    server.keys = [next]
    const asked = server.asked
    const fresh = await token(next, 'read:*/*')
    await eventually(async () => assert.equal(await statusOf(gateway, fresh), 404), 15_000)
    assert.equal(server.asked, asked + 1)
    assert.equal(await statusOf(gateway, await token(old, 'read:*/*')), 401, 'the old key is withdrawn')
    assert.equal(server.asked, asked + 1, 'the URL is read at most every ten seconds')
    server.keys = [third]
    const unnamed = await nameless(third)
    await eventually(async () => assert.equal(await statusOf(gateway, unnamed), 404), 15_000)
  })

  it('a key set with a byte order mark is read', async () => {
    const gateway = await startGateway({ ...SETTINGS, JWT_JWKS_FILE: freshFile('jwks.json', `\ufeff${keySet(key)}`) })
    assert.equal(await statusOf(gateway, await tokenWith({ scope: 'read:*/*' })), 404)
  })
})

describe('JWT_LEEWAY', () => {
  it('a token of an issuer whose clock is a few seconds ahead or behind is accepted', async () => {
    const gateway = await startGateway({ ...SETTINGS, JWT_LEEWAY: '60s' })
    const scope = 'read:*/*'
    assert.equal(await statusOf(gateway, await tokenWith({ scope, nbf: inSeconds(30), iat: inSeconds(30) })), 404)
    assert.equal(await statusOf(gateway, await tokenWith({ scope, exp: inSeconds(-30) })), 404)
    assert.equal(await statusOf(gateway, await tokenWith({ scope, nbf: inSeconds(120) })), 401)
    assert.equal(await statusOf(gateway, await tokenWith({ scope, exp: inSeconds(-120) })), 401)
    const exact = await startGateway({ ...SETTINGS, JWT_LEEWAY: '0s' })
    assert.equal(await statusOf(exact, await tokenWith({ scope, nbf: inSeconds(30) })), 401)
    assert.equal(await statusOf(exact, await tokenWith({ scope, exp: inSeconds(-1) })), 401)
  })

  it('the clocks may differ by two seconds without a setting', async () => {
    const gateway = await startGateway(SETTINGS)
    assert.equal(await statusOf(gateway, await tokenWith({ scope: 'read:*/*', nbf: inSeconds(2), iat: inSeconds(2) })), 404)
  })
})
