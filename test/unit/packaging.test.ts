// The image and the compose file, as far as they can be checked without Docker.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/index.js'

describe('docker-compose.yml', () => {
  const { services, volumes } = parse(readFileSync('docker-compose.yml', 'utf8')) as {
    services: Record<string, Record<string, unknown>>
    volumes: Record<string, unknown>
  }
  const { rabbitmq, gateway } = services as { rabbitmq: Record<string, unknown>; gateway: Record<string, unknown> }

  it('RabbitMQ with its dashboard and the gateway listen on loopback only', () => {
    assert.deepEqual(Object.keys(services), ['rabbitmq', 'gateway'])
    assert.equal(rabbitmq['image'], 'rabbitmq:4-management')
    assert.deepEqual(rabbitmq['ports'], ['127.0.0.1:5672:5672', '127.0.0.1:15672:15672'])
    assert.deepEqual(gateway['ports'], ['127.0.0.1:8080:8080'])
    assert.equal(gateway['build'], '.')
  })

  it('the gateway starts once RabbitMQ is healthy', () => {
    assert.deepEqual(gateway['depends_on'], { rabbitmq: { condition: 'service_healthy' } })
    for (const service of [rabbitmq, gateway]) assert.ok((service['healthcheck'] as { test: unknown[] }).test.length > 1)
  })

  it('the gateway has the user of RabbitMQ, and AUTH is written out', () => {
    const { RABBITMQ_DEFAULT_USER: user, RABBITMQ_DEFAULT_PASS: password } = rabbitmq['environment'] as Record<string, string>
    const environment = gateway['environment'] as Record<string, string>
    assert.equal(environment['AMQP_URL'], `amqp://${user}:${password}@rabbitmq:5672/`)
    assert.equal(environment['AUTH'], 'none')
    // A page that points its own name at the port is refused, and the containers beside it may use the service's name.
    const { ALLOWED_HOSTS } = loadConfig({ AUTH: 'none', HOST: '0.0.0.0', ALLOWED_HOSTS: environment['ALLOWED_HOSTS'] })
    assert.deepEqual(
      ALLOWED_HOSTS,
      Object.keys(services).filter((name) => name === 'gateway'),
    )
  })

  it('the data of RabbitMQ is on a volume', () => {
    assert.ok('rabbitmq' in volumes)
    assert.equal(rabbitmq['hostname'], 'rabbitmq')
  })
})

describe('Dockerfile', () => {
  const lines = readFileSync('Dockerfile', 'utf8').replaceAll('\\\n', ' ').split('\n')
  const of = (instruction: string) => lines.filter((line) => line.startsWith(`${instruction} `))

  it('the image is built in stages and does not run as root', () => {
    assert.equal(of('FROM').length, 3)
    assert.deepEqual(of('USER'), ['USER node'])
    assert.ok(lines.indexOf('USER node') > lines.lastIndexOf(of('FROM').at(-1)!))
  })

  it('the image has a health check and a stop signal', () => {
    assert.equal(of('HEALTHCHECK').length, 1)
    assert.match(of('HEALTHCHECK')[0] ?? '', /CMD \["node", "dist\/src\/main\.js", "health"\]$/)
    assert.deepEqual(of('STOPSIGNAL'), ['STOPSIGNAL SIGTERM'])
    assert.deepEqual(of('CMD'), ['CMD ["node", "dist/src/main.js"]'])
  })

  it('the image does not set AUTH', () => {
    assert.ok(!of('ENV').some((line) => /\bAUTH=/.test(line)))
  })
})
