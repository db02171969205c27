// Configuration from the environment: every mistake is reported at once, and nothing is guessed.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { ConfigError, loadConfig, longestLease, outdatedNames, settings } from '../../src/config/index.js'

const folder = mkdtempSync(join(tmpdir(), 'gateway-config-'))
after(() => rmSync(folder, { recursive: true }))
const fileWith = (text: string): string => {
  const path = join(folder, `secret-${Math.random()}`)
  writeFileSync(path, text)
  return path
}

function mistakes(env: Record<string, string>): string[] {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    for (const mistake of error.mistakes) assert.ok(error.message.includes(mistake))
    return error.mistakes
  }
}
const named = (env: Record<string, string>): string[] => mistakes(env).map((mistake) => mistake.split(' ')[0]!)

describe('the configuration', () => {
  it('an empty environment gives every setting its default', () => {
    const config = loadConfig({})
    assert.deepEqual(Object.keys(config).sort(), Object.keys(settings).sort())
    assert.equal(config.PORT, 8080)
    assert.equal(config.HOST, '127.0.0.1')
    assert.equal(config.MAX_MESSAGE_SIZE, 16 * 1024 * 1024)
    assert.equal(config.MAX_LEASE, 25 * 60_000)
    assert.deepEqual(config.AMQP_URL, [
      { protocol: 'amqp', hostname: '127.0.0.1', port: 5672, username: 'guest', password: 'guest', vhost: '/' },
    ])
    assert.ok(Object.isFrozen(config))
  })

  it('an empty setting has its default, and spaces around a value are ignored', () => {
    assert.equal(loadConfig({ PORT: '', HOST: '' }).PORT, 8080)
    assert.equal(loadConfig({ PORT: ' 9000 ', AUTH: '' }).PORT, 9000)
  })

  it('every mistake is reported at once', () => {
    const wrong = {
      PORT: '99999',
      HOST: 'not a host',
      AMQP_URL: 'http://localhost',
      MAX_LEASE: 'forever',
      MAX_MESSAGE_SIZE: '16MB',
      AUTH: 'basic',
      DOCS: 'yes',
      LOG_LEVEL: 'loud',
      AMQP_LEASE_CONNECTIONS: '0',
      PUBLISH_TIMEOUT: '1ms',
      LOG_LEVLE: 'info',
    }
    assert.deepEqual(named(wrong).sort(), Object.keys(wrong).sort())
  })

  it('nothing but a ConfigError is ever thrown', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(settings)), fc.string({ unit: 'binary' })), (env) => {
        mistakes(env)
      }),
    )
  })

  it('a mistake in AMQP_URL never shows the password', () => {
    for (const url of [
      'http://u:hunter2@h',
      'amqp://u:hunter2@h:99999',
      'amqp://u:hunter2%zz@h',
      'amqp://u:hunter2@',
      'u:hunter2@h',
    ]) {
      const found = mistakes({ AMQP_URL: url })
      assert.equal(found.length, 1, url)
      assert.doesNotMatch(found[0]!, /hunter2/)
    }
  })

  it('AMQP_URL lists several nodes of one cluster', () => {
    const { AMQP_URL } = loadConfig({ AMQP_URL: 'amqp://u:p%40@a/v%2Fw, amqps://u:p@b:1234/v%2Fw' })
    assert.deepEqual(AMQP_URL, [
      { protocol: 'amqp', hostname: 'a', port: 5672, username: 'u', password: 'p@', vhost: 'v/w' },
      { protocol: 'amqps', hostname: 'b', port: 1234, username: 'u', password: 'p', vhost: 'v/w' },
    ])
    assert.equal(loadConfig({ AMQP_URL: 'amqps://h' }).AMQP_URL[0]!.port, 5671)
    assert.deepEqual(named({ AMQP_URL: 'amqp://a/x,amqp://a/y' }), ['AMQP_URL'])
    assert.deepEqual(named({ AMQP_URL: ' , ' }), ['AMQP_URL'])
  })

  it('a secret may be read from a file', () => {
    const path = fileWith('amqp://u:p@h/v\n')
    assert.equal(loadConfig({ AMQP_URL_FILE: path }).AMQP_URL[0]!.password, 'p')
    const secret = 'as long as a secret'
    assert.equal(loadConfig({ LEASE_SECRET_FILE: fileWith(secret) }).LEASE_SECRET, secret)
    assert.deepEqual(named({ AMQP_URL_FILE: join(folder, 'missing'), LEASE_SECRET_FILE: folder }), ['AMQP_URL', 'LEASE_SECRET'])
    assert.match(mistakes({ AMQP_URL: 'amqp://h', AMQP_URL_FILE: path })[0]!, /both/)
    assert.deepEqual(named({ AMQP_URL_FILE: fileWith('nonsense') }), ['AMQP_URL'])
    assert.deepEqual(named({ PORT_FILE: fileWith('80') }).length, 0, 'only secrets may come from files')
  })

  it('a misspelt setting is a mistake that names the likely one', () => {
    for (const [wrong, right] of [
      ['AMQP_UR', 'AMQP_URL'],
      ['AMQPURL', 'AMQP_URL'],
      ['MAX_LEASSES', 'MAX_LEASES'],
      ['BROKER_CONSUMER_TIMOUT', 'BROKER_CONSUMER_TIMEOUT'],
      ['LEASE_SECRET_FIL', 'LEASE_SECRET_FILE'],
      ['GATEWAY_PORT', 'PORT'],
      ['GATEWAY_AMQP_URL', 'AMQP_URL'],
      ['RABBITMQ_HTTP_GATEWAY_LOG_LEVEL', 'LOG_LEVEL'],
      ['GATEWAY_MAX_LEASE', 'MAX_LEASE'],
      ['LOGIN_RECHEK', 'BROKER_USER_RECHECK_INTERVAL'],
    ] as const) {
      assert.deepEqual(mistakes({ [wrong]: '1' }), [`${wrong} is not a setting: did you mean ${right}?`])
    }
  })

  it('other variables of the environment are ignored', () => {
    const env = {
      PATH: '/bin',
      HOME: '/',
      HOSTNAME: 'h',
      PORTS: '1',
      AMQP: 'x',
      NODE_ENV: 'production',
      LANG: 'C',
      RABBITMQ_URL: 'amqp://x',
      DOCS_URL: 'x',
      XDG_DATA_HOME: 'x',
      npm_config_cache: 'x',
    }
    assert.deepEqual(mistakes(env), [])
  })

  it('the variables that Kubernetes sets for a service named gateway are ignored', () => {
    const env = {
      GATEWAY_SERVICE_HOST: '10.0.0.1',
      GATEWAY_SERVICE_PORT: '8080',
      GATEWAY_SERVICE_PORT_HTTP: '8080',
      GATEWAY_PORT: 'tcp://10.0.0.1:8080',
      GATEWAY_PORT_8080_TCP: 'tcp://10.0.0.1:8080',
      GATEWAY_PORT_8080_TCP_PROTO: 'tcp',
      GATEWAY_PORT_8080_TCP_PORT: '8080',
      GATEWAY_PORT_8080_TCP_ADDR: '10.0.0.1',
      RABBITMQ_HTTP_GATEWAY_SERVICE_HOST: '10.0.0.1',
      RABBITMQ_HTTP_GATEWAY_PORT: 'tcp://10.0.0.1:8080',
    }
    assert.deepEqual(mistakes(env), [])
  })

  it('a HOST that other machines can reach requires AUTH', () => {
    for (const HOST of ['0.0.0.0', '::', '10.0.0.1', 'example.org']) {
      assert.deepEqual(named({ HOST }), ['HOST'], HOST)
      assert.deepEqual(mistakes({ HOST, AUTH: 'none' }), [])
    }
    for (const HOST of ['127.0.0.1', '127.1.2.3', 'localhost', '::1']) assert.deepEqual(mistakes({ HOST }), [], HOST)
    assert.deepEqual(named({ HOST: '127.0.0.1.example.org' }), ['HOST'])
  })

  it('ADVERTISE_URL is an origin that others can connect to, and requires two secrets', () => {
    const [ADVERTISE_SECRET, LEASE_SECRET] = ['sixteen bytes ok', 'and these, too..']
    const SECRETS = { ADVERTISE_SECRET, LEASE_SECRET }
    for (const [given, ADVERTISE_URL] of [
      ['http://10.0.0.5:8080', 'http://10.0.0.5:8080'],
      ['https://One.Example:443/', 'https://one.example'],
      ['http://[2001:db8::1]:80', 'http://[2001:db8::1]'],
    ]) {
      assert.equal(loadConfig({ ADVERTISE_URL: given, ...SECRETS }).ADVERTISE_URL, ADVERTISE_URL)
    }
    for (const ADVERTISE_URL of [
      '10.0.0.5:8080',
      'amqp://h',
      'http://u:p@h',
      'http://h/path',
      'http://h?x',
      'http://h/#x',
      'http://0.0.0.0:8080',
      'http://[::]:8080',
      `http://${`${'a'.repeat(60)}.`.repeat(5)}x`,
    ]) {
      assert.deepEqual(named({ ADVERTISE_URL, ...SECRETS }), ['ADVERTISE_URL'], ADVERTISE_URL)
    }
    const fromFile = { ADVERTISE_URL: 'http://h', LEASE_SECRET, ADVERTISE_SECRET_FILE: fileWith(ADVERTISE_SECRET) }
    assert.equal(loadConfig(fromFile).ADVERTISE_SECRET, ADVERTISE_SECRET)
    assert.deepEqual(named({ ADVERTISE_URL: 'http://h' }), ['ADVERTISE_SECRET', 'LEASE_SECRET'])
    assert.deepEqual(named({ ADVERTISE_URL: 'http://h', ADVERTISE_SECRET }), ['LEASE_SECRET'])
    assert.deepEqual(named({ ADVERTISE_SECRET }), ['ADVERTISE_URL'])
    assert.deepEqual(named({ ADVERTISE_CA_FILE: 'ca.pem' }), ['ADVERTISE_URL'])
    assert.match(mistakes({ ADVERTISE_URL: 'http://h', ...SECRETS, WORKERS: '2' })[0]!, /WORKERS/)
  })

  it('a secret that could be guessed is refused, without being quoted', () => {
    for (const short of ['a', 'fifteen bytes..']) {
      const found = mistakes({ LEASE_SECRET: short, ADVERTISE_SECRET: short, ADVERTISE_URL: 'http://h' })
      assert.deepEqual(
        found.map((text) => text.split(' ')[0]),
        ['LEASE_SECRET', 'ADVERTISE_SECRET'],
      )
      assert.ok(!found.join().includes(short === 'a' ? ' a ' : short))
    }
    for (const enough of ['sixteen bytes...', 'ü'.repeat(8)])
      assert.equal(loadConfig({ LEASE_SECRET: enough }).LEASE_SECRET, enough)
  })

  it('MAX_LEASE is at least a minute shorter than the consumer timeout of the broker', () => {
    assert.deepEqual(named({ MAX_LEASE: '30m' }), ['MAX_LEASE'])
    assert.deepEqual(mistakes({ MAX_LEASE: '29m' }), [])
    assert.deepEqual(mistakes({ MAX_LEASE: '59m', BROKER_CONSUMER_TIMEOUT: '1h' }), [])
    assert.deepEqual(named({ MAX_LEASE: '10m', BROKER_CONSUMER_TIMEOUT: '10m' }), ['MAX_LEASE'])
    // If it is not set, it follows the timeout.
    const short = loadConfig({ BROKER_CONSUMER_TIMEOUT: '10s' })
    assert.equal(longestLease(short), 5000)
    assert.equal(short.MAX_LEASE, 5000)
  })

  it('a setting is still read by its former name, with a warning', () => {
    const env = { LOGIN_RECHECK: '1m', REMEMBERED_SETTLES: '7', PUSH_ALLOW: '10.0.0.0/8', PORT: '1' }
    const config = loadConfig(env)
    assert.equal(config.BROKER_USER_RECHECK_INTERVAL, 60_000)
    assert.equal(config.MAX_REMEMBERED_SETTLES, 7)
    assert.deepEqual(config.PUSH_ALLOWED_NETWORKS, [{ address: '10.0.0.0', bits: 8 }])
    assert.deepEqual(outdatedNames(env), [
      { name: 'BROKER_USER_RECHECK_INTERVAL', formerly: 'LOGIN_RECHECK' },
      { name: 'MAX_REMEMBERED_SETTLES', formerly: 'REMEMBERED_SETTLES' },
      { name: 'PUSH_ALLOWED_NETWORKS', formerly: 'PUSH_ALLOW' },
    ])
    assert.deepEqual(outdatedNames({ PUSH_ALLOWED_NETWORKS: '10.0.0.0/8', LOGIN_RECHECK: '' }), [])
  })

  it('a setting under both of its names must have the same value', () => {
    assert.deepEqual(mistakes({ REMEMBERED_SETTLES: '7', MAX_REMEMBERED_SETTLES: ' 7' }), [])
    assert.deepEqual(mistakes({ REMEMBERED_SETTLES: '7', MAX_REMEMBERED_SETTLES: '8' }), [
      'MAX_REMEMBERED_SETTLES and its former name REMEMBERED_SETTLES are both set, to different values: keep MAX_REMEMBERED_SETTLES',
    ])
    assert.deepEqual(named({ REMEMBERED_SETTLES: 'many' }), ['MAX_REMEMBERED_SETTLES'])
  })
})
