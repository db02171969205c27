// What every way of running the tests needs to know of them. No packages: it is imported before there are any.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './project.mjs'

/** What the tests call, besides Node. */
export const SYSTEM_PACKAGES = [
  'rabbitmq-server',
  'python3',
  'python3-pika',
  'python3-requests',
  'python3-celery',
  'amqp-tools',
  'chromium',
  'perl',
  'php-cli',
  'php-curl',
  'curl',
  'openssl',
  'faketime',
  'nginx',
  'haproxy',
  'apache2',
  'caddy',
]

/**
 * The compiled test files whose path contains one of the given parts, or all of them, relative to the project.
 * @param {string[]} parts such as test/api/leases or test/unit/units.test.ts
 * @returns {string[]}
 */
export function compiledTests(parts) {
  const filters = parts.map((part) => part.replace(/\.ts$/, ''))
  return readdirSync(join(root, 'dist', 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join('dist', 'test', file))
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .sort()
}

/**
 * The environment variables by which tests find their broker.
 * @param {import('./broker.mjs').Broker} [broker]
 * @returns {Record<string, string>}
 */
export function testEnvironment(broker) {
  return {
    NODE_ENV: 'test',
    ...(broker && { AMQP_URL: broker.url, RABBITMQ_MANAGEMENT_URL: broker.managementUrl, TEST_BROKER_CTL: broker.ctlPath }),
  }
}
