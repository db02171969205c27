// Tokens as identity providers make them: rights in their claims, keys that change under the same name, clocks that differ.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, describe, it } from 'node:test'
import { type JWTPayload, SignJWT } from 'jose'
import type { Identity } from '../../src/access/identity.js'
import { createJwtVerifier } from '../../src/access/jwt.js'
import { loadConfig } from '../../src/config/index.js'
import { Problem } from '../../src/problems.js'
import { eventually } from '../support/eventually.js'
import { freshFile } from '../support/files.js'
import { AUDIENCE, ISSUER, inSeconds, KeySetServer, keySet, keySetFile, newKey, token } from '../support/issuer.js'

const key = await newKey('first', 'RS256')
const SETTINGS = { AUTH: 'jwt', JWT_JWKS_FILE: keySetFile(key).path, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }

/** A token with exactly these claims beside the standard ones. */
const tokenWith = (claims: JWTPayload) => token(key, undefined as never, claims)

const silent = () => undefined
const log = { info: silent, warn: silent, error: silent, debug: silent }

/** Finds the owners of tokens as a gateway with these settings does. */
function verifier(settings: Record<string, string> = {}) {
  const verifier = createJwtVerifier({ config: loadConfig({ ...SETTINGS, ...settings }), log })
  assert.ok(verifier)
  after(() => verifier.close())
  return async (jwt: string): Promise<Identity | Problem> => {
    const found = await verifier.find({ credentials: { scheme: 'bearer', user: '', secret: jwt } })
    assert.ok(found)
    return found
  }
}

/** The owner of a token that is accepted. */
async function accepted(find: ReturnType<typeof verifier>, jwt: string): Promise<Identity> {
  const found = await find(jwt)
  assert.ok(!(found instanceof Problem), found instanceof Problem ? found.message : '')
  return found
}

const isRefused = async (find: ReturnType<typeof verifier>, jwt: string) => (await find(jwt)) instanceof Problem
const mayRead = ({ rights }: Identity, queue = 'q') => rights.allows('read', '/', queue)

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
      const find = verifier(settings)
      const { rights, withoutRights } = await accepted(find, await tokenWith(claims))
      assert.ok(rights.allows('read', '/', 'q') && withoutRights === undefined)
      assert.ok(!rights.allows('configure', '/', 'q'))
      assert.equal(mayRead(await accepted(find, await tokenWith({}))), false, 'a token without these claims')
    })
  }

  it('docs/access.md has a recipe for each provider', () => {
    const text = readFileSync('docs/access.md', 'utf8')
    for (const { name } of PROVIDERS) assert.match(text, new RegExp(`^\\| ${name.split(/[ ,]/, 1)[0]}`, 'm'))
  })

  it('only the claims that are named count', async () => {
    const find = verifier()
    for (const claims of [
      { roles: ['read:*/*'] },
      { scp: 'read:*/*' },
      { permissions: ['read:*/*'] },
      { 'scope.x': 'read:*/*' },
      { scope: { x: 'read:*/*' } },
      { scope: 7 },
      { scope: [7, null, {}] },
    ] as JWTPayload[])
      assert.equal(mayRead(await accepted(find, await tokenWith(claims))), false, JSON.stringify(claims))
    assert.ok(mayRead(await accepted(find, await tokenWith({ scope: 'read:*/*' }))))
  })

  it('an alias stands for its rights and no others, and a scope that is no right and no alias for none', async () => {
    const find = verifier({ JWT_SCOPE_CLAIMS: 'roles', JWT_SCOPE_ALIASES: 'reader=read:%2F/jobs write:%2F/results' })
    const { rights } = await accepted(find, await tokenWith({ roles: ['reader', 'constructor', '__proto__'] }))
    assert.deepEqual([rights.allows('read', '/', 'jobs'), rights.allows('write', '/', 'results')], [true, true])
    assert.deepEqual([rights.allows('read', '/', 'others'), rights.allows('configure', '/', 'jobs')], [false, false])
    assert.ok((await accepted(find, await tokenWith({ roles: ['constructor', 'toString'] }))).withoutRights)
  })

  it('a mistake in JWT_SCOPE_ALIASES keeps the gateway from starting, and is named', () => {
    for (const aliases of ['worker', 'worker=', '=read:*/*', 'a=read:*/*;a=read:*/*', 'worker=consume:x/y'])
      assert.throws(() => verifier({ JWT_SCOPE_ALIASES: aliases }), /JWT_SCOPE_ALIASES/, aliases)
  })

  it('the owner of a token without any right is told so, and where they were looked for', async () => {
    const hint = async (settings: Record<string, string>, claims: JWTPayload) =>
      (await accepted(verifier(settings), await tokenWith(claims))).withoutRights
    const two = { JWT_SCOPE_CLAIMS: 'scp,roles' }
    assert.equal(await hint(two, { scope: 'read:*/*' }), 'The token has no right at all: none of its claims scp, roles has one.')
    const prefixed = await hint({ JWT_SCOPE_PREFIX: 'api://x' }, { scope: 'read:*/*' })
    assert.equal(prefixed, 'The token has no right at all: its claim scope has none with the prefix api://x.')
    assert.equal(await hint(two, { roles: ['read:%2F/others'] }), undefined)
  })
})

describe('the keys of tokens', () => {
  /** A token without a `kid`. */
  const nameless = (by: typeof key) =>
    new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: 's', exp: inSeconds(300), scope: 'read:*/*' })
      .setProtectedHeader({ alg: by.alg })
      .sign(by.privateKey)

  it('a new key under the name of an old one, or under none, is fetched for the first token that it signed', async () => {
    const old = await newKey('legacy-token-key')
    const next = await newKey('legacy-token-key')
    const third = await newKey('other')
    const server = await KeySetServer.start(old)
    const find = verifier({ JWT_JWKS_FILE: '', JWT_JWKS_URL: server.url })
    await accepted(find, await token(old, 'read:*/*'))
    server.keys = [next]
    const asked = server.asked
    const fresh = await token(next, 'read:*/*')
    await eventually(() => accepted(find, fresh), 15_000)
    assert.equal(server.asked, asked + 1)
    assert.ok(await isRefused(find, await token(old, 'read:*/*')), 'the old key is withdrawn')
    assert.equal(server.asked, asked + 1, 'the URL is read at most every ten seconds')
    server.keys = [third]
    const unnamed = await nameless(third)
    await eventually(() => accepted(find, unnamed), 15_000)
  })

  it('a key set with a byte order mark is read', async () => {
    const find = verifier({ JWT_JWKS_FILE: freshFile('jwks.json', `\ufeff${keySet(key)}`) })
    await accepted(find, await tokenWith({ scope: 'read:*/*' }))
  })
})

describe('JWT_LEEWAY', () => {
  const scope = 'read:*/*'

  it('a token of an issuer whose clock is ahead or behind is accepted within it', async () => {
    const find = verifier({ JWT_LEEWAY: '60s' })
    await accepted(find, await tokenWith({ scope, nbf: inSeconds(30), iat: inSeconds(30) }))
    const old = await accepted(find, await tokenWith({ scope, exp: inSeconds(-30) }))
    assert.ok(old.current(), 'it counts for the requests that the token opened, too')
    for (const claims of [{ nbf: inSeconds(120) }, { exp: inSeconds(-120) }])
      assert.ok(await isRefused(find, await tokenWith({ scope, ...claims })))
  })

  it('with 0s the clocks have to agree, and without a setting they may differ by two seconds', async () => {
    const exact = verifier({ JWT_LEEWAY: '0s' })
    for (const claims of [{ nbf: inSeconds(30) }, { exp: inSeconds(-1) }])
      assert.ok(await isRefused(exact, await tokenWith({ scope, ...claims })))
    await accepted(verifier(), await tokenWith({ scope, nbf: inSeconds(2), iat: inSeconds(2) }))
  })
})
