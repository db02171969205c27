// What operators do while the gateway runs, and what their platforms give it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { eventually } from '../support/eventually.js'
import { freshFile, replaceFile } from '../support/files.js'
import { AMQP_URL, freshName } from '../support/gateway.js'
import { AUDIENCE, ISSUER, KeySetServer, newKey } from '../support/issuer.js'
import { management } from '../support/management.js'
import { listeningGateway, readyGateway } from '../support/process.js'

const broker = new URL(AMQP_URL)

interface BrokerConnectionInfo {
  name: string
  user: string
  timeout: number
  channel_max: number
  frame_max: number
}
const connectionsOf = async (user: string) =>
  (await management<BrokerConnectionInfo[]>('connections')).filter((connection) => connection.user === user)

/** A user of RabbitMQ who may do everything. @returns the URL with a password */
async function freshUser(): Promise<{
  name: string
  urlWith: (password: string) => string
  setPassword: (password: string) => Promise<void>
}> {
  const name = freshName('operator')
  const setPassword = async (password: string) => {
    await management(`users/${name}`, { method: 'PUT', body: JSON.stringify({ password, tags: '' }) })
  }
  await setPassword('first')
  after(() => management(`users/${name}`, { method: 'DELETE' }))
  const permissions = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
  await management(`permissions/%2F/${name}`, { method: 'PUT', body: permissions })
  return { name, urlWith: (password) => `amqp://${name}:${password}@${broker.host}/`, setPassword }
}

describe('a gateway in the hands of operators', () => {
  it('a password that is changed in AMQP_URL_FILE is used for the next connection', async () => {
    const { name, urlWith, setPassword } = await freshUser()
    const file = freshFile('url', urlWith('first'))
    const gateway = await readyGateway({ AMQP_URL_FILE: file })
    const password = randomUUID()
    await setPassword(password)
    replaceFile(file, urlWith(password))
    const closeAll = async () => {
      const connections = await connectionsOf(name)
      assert.ok(connections.length >= 3)
      for (const one of connections) await management(`connections/${encodeURIComponent(one.name)}`, { method: 'DELETE' })
    }
    await eventually(closeAll, 30_000) // the list of the management API lags
    await eventually(async () => {
      assert.match(gateway.output(), /Closed via management plugin/)
      assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 200)
    }, 30_000)
    assert.doesNotMatch(gateway.output(), new RegExp(password))
  })

  it('the parameters in the query of AMQP_URL are those of the connections', async () => {
    const { name, urlWith } = await freshUser()
    await readyGateway({ AMQP_URL: `${urlWith('first')}?heartbeat=7&channel_max=99&frame_max=16384` })
    await eventually(async () => {
      const connections = await connectionsOf(name)
      assert.ok(connections.length >= 3)
      for (const { timeout, channel_max, frame_max } of connections)
        assert.deepEqual([timeout, channel_max, frame_max], [7, 99, 16384])
    }, 30_000)
  })

  it('neither the log nor a message shows what the query of JWT_JWKS_URL has', async () => {
    const server = await KeySetServer.start(await newKey('first'))
    await server.goAway()
    const env = { AUTH: 'jwt', JWT_JWKS_URL: `${server.url}?apikey=k3y`, JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE }
    const gateway = await listeningGateway({ AMQP_URL, ...env })
    await eventually(() =>
      assert.match(gateway.output(), /"url":"http:\/\/127\.0\.0\.1:\d+\/jwks\.json".*keys of tokens cannot be read/),
    )
    assert.doesNotMatch(gateway.output(), /k3y/)
  })

  it('with HOST=:: it serves IPv6 and IPv4, and its health check finds it', async () => {
    const gateway = await listeningGateway({ AMQP_URL, HOST: '::', AUTH: 'none' })
    const { port } = new URL(gateway.url)
    for (const host of ['[::1]', '127.0.0.1']) assert.equal((await fetch(`http://${host}:${port}/health/live`)).status, 200)
    const env = { PATH: process.env['PATH'], HOST: '::', AUTH: 'none', PORT: port }
    await promisify(execFile)(process.execPath, [resolve('dist/src/main.js'), 'health'], { cwd: tmpdir(), env })
  })

  it('it starts beside services of other names in Kubernetes', async () => {
    const others = {
      GATEWAY_API_SERVICE_HOST: '10.0.0.9',
      GATEWAY_API_SERVICE_PORT: '80',
      GATEWAY_API_PORT: 'tcp://10.0.0.9:80',
      OPERATIONS_PORT: 'tcp://10.0.0.9:80',
      GATEWAY_INTERFACE: 'CGI/1.1',
    }
    const gateway = await listeningGateway({ AMQP_URL, ...others })
    assert.equal((await fetch(`${gateway.url}/metrics`)).status, 200)
  })
})
