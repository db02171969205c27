// What the environment has that is not the gateway's own, and values that would be taken for something else than is meant.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { ConfigError, currentBrokerAddresses, loadConfig } from '../../src/config/index.js'
import { freshFile, replaceFile } from '../support/files.js'

function mistakes(env: Record<string, string>): string[] {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.mistakes
  }
}

function mistake(env: Record<string, string>): string {
  const found = mistakes(env)
  assert.equal(found.length, 1, JSON.stringify(found))
  return found[0]!
}

const broker = (query: string) => loadConfig({ AMQP_URL: `amqp://u:p@h/v${query}` }).AMQP_URL[0]!

describe('variables of others', () => {
  /** What Kubernetes puts into a pod for a service. */
  const service = (name: string): Record<string, string> => ({
    [`${name}_SERVICE_HOST`]: 'fd00::9',
    [`${name}_SERVICE_PORT`]: '80',
    [`${name}_SERVICE_PORT_HTTP_API`]: '80',
    [`${name}_PORT`]: 'tcp://[fd00::9]:80',
    [`${name}_PORT_80_TCP`]: 'tcp://[fd00::9]:80',
    [`${name}_PORT_80_TCP_PROTO`]: 'tcp',
    [`${name}_PORT_80_TCP_PORT`]: '80',
    [`${name}_PORT_80_TCP_ADDR`]: 'fd00::9',
    [`${name}_PORT_53_UDP`]: 'udp://[fd00::9]:53',
    [`${name}_PORT_53_UDP_ADDR`]: 'fd00::9',
  })

  it('the variables of a service in Kubernetes are ignored, whatever its name', () => {
    for (const name of [
      'GATEWAY',
      'GATEWAY_API',
      'GATEWAY_AMQP_URL',
      'RABBITMQ_HTTP_GATEWAY',
      'AMQP',
      'AMQP_URLS',
      'LOG_LEVEL',
      'HOST',
    ])
      assert.deepEqual(mistakes(service(name)), [], name)
  })

  it('the variable of a service named operations is not the setting OPERATIONS_PORT', () => {
    assert.equal(loadConfig(service('OPERATIONS')).OPERATIONS_PORT, undefined)
    assert.equal(loadConfig({ OPERATIONS_PORT: '9090' }).OPERATIONS_PORT, 9090)
  })

  it('names with the prefix of another gateway are ignored unless they resemble a setting', () => {
    assert.deepEqual(mistakes({ GATEWAY_URL: 'http://x', GATEWAY_INTERFACE: 'CGI/1.1', GATEWAY_COLOUR: 'blue' }), [])
    assert.match(mistake({ GATEWAY_AMQP_URL: 'amqp://x' }), /did you mean AMQP_URL/)
  })
})

describe('secrets', () => {
  it('a file without a secret in it is a mistake', () => {
    for (const text of ['', '\n', ' \t\r\n']) {
      for (const name of ['AMQP_URL', 'LEASE_SECRET'])
        assert.match(
          mistake({ [`${name}_FILE`]: freshFile('empty', text) }),
          new RegExp(`^${name} .*${name}_FILE: the file is empty`),
        )
    }
  })

  it('an empty AMQP_URL is a mistake, and not the default', () => {
    for (const AMQP_URL of ['', ' ']) assert.match(mistake({ AMQP_URL }), /^AMQP_URL is set, but empty/)
    assert.equal(loadConfig({ LEASE_SECRET: '', ADVERTISE_SECRET: '' }).LEASE_SECRET, '')
  })
})

describe('AMQP_URL', () => {
  it('the parameters of its query are in force', () => {
    const { heartbeat, connectTimeout, channelMax, frameMax } = broker(
      '?heartbeat=5&connection_timeout=2000&channel_max=100&frame_max=8192',
    )
    assert.deepEqual(
      { heartbeat, connectTimeout, channelMax, frameMax },
      { heartbeat: 5000, connectTimeout: 2000, channelMax: 100, frameMax: 8192 },
    )
    assert.equal(broker('').heartbeat, undefined)
  })

  it('other parameters, and values out of their bounds, are mistakes', () => {
    for (const query of [
      'auth_mechanism=external',
      'cacertfile=/x',
      'heartbeat=0',
      'heartbeat=x',
      'frame_max=1',
      'heartbeat=1&verify=none',
      'toString=1',
    ])
      assert.match(mistake({ AMQP_URL: `amqp://u:p@h/v?${query}` }), /^AMQP_URL has a query/, query)
  })

  it('a password with a raw /, # or ? in it is a mistake, and is not shown', () => {
    for (const raw of [
      '12/hunter2',
      '12#hunter2',
      '12?hunter2',
      '12?heartbeat=hunter2',
      '1/2/hunter2',
      'x/hunter2',
      '/hunter2',
    ]) {
      const text = mistake({ AMQP_URL: `amqp://u1:${raw}@127.0.0.1:5672/` })
      assert.match(text, /^AMQP_URL /, raw)
      assert.doesNotMatch(text, /hunter2/, raw)
    }
    const { password, vhost } = loadConfig({ AMQP_URL: 'amqp://u1:12%2F%23%3Fx@h/a%2Fb' }).AMQP_URL[0]!
    assert.deepEqual([password, vhost], ['12/#?x', 'a/b'])
  })

  it('AMQP_URL_FILE is read again, unless it has a mistake or another vhost by then', () => {
    const path = freshFile('url', 'amqp://u:old@h/v')
    const config = loadConfig({ AMQP_URL_FILE: path })
    const password = () => currentBrokerAddresses(config)[0]!.password
    assert.equal(password(), 'old')
    replaceFile(path, 'amqp://u:new@h/v\n')
    assert.equal(password(), 'new')
    for (const text of ['', 'nonsense', 'amqp://u:new@h/other']) {
      writeFileSync(path, text)
      assert.equal(password(), 'old', text)
    }
    assert.equal(config.AMQP_URL[0]!.password, 'old')
  })
})

describe('addresses', () => {
  it('TRUST_PROXY with everybody in it is a mistake in words', () => {
    for (const everybody of ['0.0.0.0/0', '::/0', '127.0.0.1,0.0.0.0/0'])
      assert.match(mistake({ TRUST_PROXY: everybody }), /^TRUST_PROXY contains \S+\/0, .*name the proxies/)
    assert.deepEqual(
      [...loadConfig({ TRUST_PROXY: '10.0.0.0/8, fd00::/8,loopback' }).TRUST_PROXY],
      ['10.0.0.0/8', 'fd00::/8', 'loopback'],
    )
  })

  const SECRETS = { ADVERTISE_SECRET: 's'.repeat(16), LEASE_SECRET: 'l'.repeat(16) }

  it('ADVERTISE_URL takes an IPv6 address without brackets, as Kubernetes writes the address of a pod', () => {
    const advertised = (ADVERTISE_URL: string) => loadConfig({ ADVERTISE_URL, ...SECRETS }).ADVERTISE_URL
    assert.equal(advertised('http://fd00::5:8080'), 'http://[fd00::5]:8080')
    assert.equal(advertised('https://2001:db8:1:2:3:4:5:6:8443'), 'https://[2001:db8:1:2:3:4:5:6]:8443')
    assert.equal(advertised('http://[fd00::5]:8080'), 'http://[fd00::5]:8080')
    assert.equal(advertised('http://10.0.0.5:8080'), 'http://10.0.0.5:8080')
    assert.match(mistake({ ADVERTISE_URL: 'http://fd00:::5:8080', ...SECRETS }), /^ADVERTISE_URL is not a URL/)
  })

  it('JWT_JWKS_URL with credentials is a mistake, and does not show them', () => {
    for (const url of ['http://apiuser:hunter2@127.0.0.1/jwks', 'https://hunter2@issuer.example/jwks']) {
      const text = mistake({ AUTH: 'jwt', JWT_JWKS_URL: url, JWT_ISSUER: 'x', JWT_AUDIENCE: 'y' })
      assert.match(text, /^JWT_JWKS_URL/)
      assert.doesNotMatch(text, /hunter2/)
    }
  })
})
