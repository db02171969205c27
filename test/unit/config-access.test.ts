// The settings of authentication, rate limits, origins, proxies and ports.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConfigError, loadConfig } from '../../src/config/index.js'

function mistakes(env: Record<string, string>): string[] {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.mistakes
  }
}
const named = (env: Record<string, string>): string[] => mistakes(env).map((mistake) => mistake.split(' ')[0]!)

describe('AUTH', () => {
  it('AUTH is none or a list of authentication methods', () => {
    assert.deepEqual(loadConfig({}).AUTH, [])
    assert.deepEqual(loadConfig({ AUTH: 'none' }).AUTH, ['none'])
    assert.deepEqual(loadConfig({ AUTH: 'keys', API_KEYS_FILE: 'k' }).AUTH, ['keys'])
    assert.deepEqual(loadConfig({ AUTH: 'broker' }).AUTH, ['broker'])
    assert.deepEqual(loadConfig({ AUTH: 'keys,jwt', API_KEYS_FILE: 'k', JWT_JWKS_FILE: 'j' }).AUTH, ['keys', 'jwt'])
    for (const AUTH of ['basic', 'keys,broker', 'keys,none', 'none,none', 'keys;jwt', 'Keys']) {
      assert.deepEqual(named({ AUTH, API_KEYS_FILE: 'k' }), ['AUTH'], AUTH)
    }
  })

  it('AUTH needs the settings of its methods and refuses those of others', () => {
    assert.deepEqual(named({ AUTH: 'keys' }), ['API_KEYS_FILE'])
    assert.deepEqual(named({ AUTH: 'none', API_KEYS_FILE: 'k' }), ['API_KEYS_FILE'])
    assert.deepEqual(named({ API_KEYS_FILE: 'k' }), ['API_KEYS_FILE'])
    const [JWT_JWKS_URL, JWT_JWKS_FILE] = ['https://issuer.example/keys', 'j']
    for (const env of [{ AUTH: 'jwt' }, { JWT_JWKS_FILE }, { AUTH: 'jwt', JWT_JWKS_URL, JWT_JWKS_FILE }])
      assert.deepEqual(named(env), ['JWT_JWKS_URL'], JSON.stringify(env))
    for (const url of ['issuer.example', 'ftp://issuer.example/keys'])
      assert.ok(named({ AUTH: 'jwt', JWT_JWKS_URL: url }).includes('JWT_JWKS_URL'), url)
    assert.deepEqual(named({ AUTH: 'jwt', JWT_JWKS_URL, JWT_HEADERS: 'x-tenant' }), ['JWT_HEADERS'])
  })
})

describe('RATE_LIMIT', () => {
  it('RATE_LIMIT is a number of requests per duration', () => {
    assert.equal(loadConfig({}).RATE_LIMIT, undefined)
    assert.deepEqual(loadConfig({ RATE_LIMIT: '100/s' }).RATE_LIMIT, { requests: 100, window: 1000 })
    assert.deepEqual(loadConfig({ RATE_LIMIT: '6000/m' }).RATE_LIMIT, { requests: 6000, window: 60_000 })
    assert.deepEqual(loadConfig({ RATE_LIMIT: '50/10s' }).RATE_LIMIT, { requests: 50, window: 10_000 })
    for (const RATE_LIMIT of ['100', '100/', '0/s', '1/500ms', '1.5/s', '-1/s', '100/d', '100 / s', 'off']) {
      assert.deepEqual(named({ RATE_LIMIT }), ['RATE_LIMIT'], RATE_LIMIT)
    }
  })
})

describe('CORS_ORIGINS', () => {
  it('CORS_ORIGINS lists origins as browsers write them', () => {
    assert.deepEqual(loadConfig({}).CORS_ORIGINS, [])
    const CORS_ORIGINS = 'https://app.example, http://localhost:3000 ,'
    assert.deepEqual(loadConfig({ CORS_ORIGINS }).CORS_ORIGINS, ['https://app.example', 'http://localhost:3000'])
    for (const wrong of [
      'app.example',
      'https://app.example/',
      'https://App.example',
      'https://a.example:443',
      'https://*.example',
      'null',
    ]) {
      assert.deepEqual(named({ CORS_ORIGINS: wrong }), ['CORS_ORIGINS'], wrong)
    }
  })

  it('CORS_ORIGINS may be * only with authentication', () => {
    assert.deepEqual(named({ CORS_ORIGINS: '*' }), ['CORS_ORIGINS'])
    assert.deepEqual(mistakes({ CORS_ORIGINS: '*', AUTH: 'keys', API_KEYS_FILE: 'k' }), [])
  })
})

describe('TRUST_PROXY', () => {
  it('TRUST_PROXY lists addresses, ranges and the names of ranges', () => {
    assert.deepEqual(loadConfig({}).TRUST_PROXY, [])
    const TRUST_PROXY = '10.0.0.0/8, 2001:db8::/32, ::1, loopback'
    assert.deepEqual(loadConfig({ TRUST_PROXY }).TRUST_PROXY, ['10.0.0.0/8', '2001:db8::/32', '::1', 'loopback'])
    for (const wrong of ['true', '1', '10.0.0.0/33', '10.0.0.0/8/8', '10.0.0/8', 'proxy.example', '10.0.0.1/']) {
      assert.deepEqual(named({ TRUST_PROXY: wrong }), ['TRUST_PROXY'], wrong)
    }
  })
})

describe('OPERATIONS_PORT', () => {
  it('OPERATIONS_PORT has to differ from PORT', () => {
    assert.equal(loadConfig({}).OPERATIONS_PORT, undefined)
    assert.equal(loadConfig({ OPERATIONS_PORT: '9090' }).OPERATIONS_PORT, 9090)
    assert.deepEqual(mistakes({ OPERATIONS_PORT: '0', PORT: '0' }), [])
    assert.deepEqual(named({ OPERATIONS_PORT: '8080' }), ['OPERATIONS_PORT'])
    assert.deepEqual(named({ OPERATIONS_HOST: '10.0.0.1' }), ['OPERATIONS_HOST'])
  })
})

describe('environment variables of other programs', () => {
  it('variables of other programs that resemble settings are not mistakes', () => {
    const env = {
      HOSTNAME: 'h',
      SSL_CERT_FILE: '/etc/ssl',
      HTTP_PROXY: 'x',
      NO_PROXY: 'x',
      NODE_EXTRA_CA_CERTS: 'x',
      HOSTS: 'x',
      SSL_CERT_DIR: 'x',
    }
    assert.deepEqual(mistakes(env), [])
    assert.match(mistakes({ CORS_ORIGIN: 'x' })[0]!, /did you mean CORS_ORIGINS/)
    assert.match(mistakes({ API_KEY_FILE: 'x' })[0]!, /did you mean API_KEYS_FILE/)
  })
})
