// HTTP libraries with their default headers, each against each kind of call: what works with one of them works with all.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import axios from 'axios'
import got from 'got'
import ky from 'ky'
import nodeFetch from 'node-fetch'
import superagent from 'superagent'
import { request as undici } from 'undici'
import { freshName, startGateway } from '../support/gateway.js'

const gateway = await startGateway()

type Method = 'GET' | 'PUT' | 'POST' | 'DELETE'
interface Call {
  method: Method
  path: string
  /** undefined: whatever the library sends by itself. */
  type?: string | undefined
  /** undefined: none; empty: what a program sends that has nothing to say. */
  body?: string | undefined
}
/** Sends a call and resolves with its status, whatever it is. */
type Client = (call: Call) => Promise<number>

const headersOf = ({ type }: Call): Record<string, string> => (type === undefined ? {} : { 'content-type': type })
const urlOf = ({ path }: Call): string => gateway.url + path

const IN_NODE: Record<string, Client> = {
  fetch: async (call) =>
    (await fetch(urlOf(call), { method: call.method, headers: headersOf(call), ...given(call.body) })).status,
  'fetch with a Blob': async (call) => {
    const body = call.body === undefined ? undefined : new Blob([call.body], call.type === undefined ? {} : { type: call.type })
    return (await fetch(urlOf(call), { method: call.method, ...(body && { body }) })).status
  },
  undici: async (call) => {
    const { statusCode, body } = await undici(urlOf(call), { method: call.method, headers: headersOf(call), ...given(call.body) })
    await body.dump()
    return statusCode
  },
  'node-fetch': async (call) =>
    (await nodeFetch(urlOf(call), { method: call.method, headers: headersOf(call), ...given(call.body) })).status,
  axios: async (call) => {
    const { method, body: data } = call
    return (await axios({ method, url: urlOf(call), headers: headersOf(call), data, validateStatus: () => true })).status
  },
  got: async (call) => {
    const { method } = call
    const retry = { limit: 0 }
    return (await got(urlOf(call), { method, headers: headersOf(call), ...given(call.body), throwHttpErrors: false, retry }))
      .statusCode
  },
  ky: async (call) => {
    const { method } = call
    return (await ky(urlOf(call), { method, headers: headersOf(call), ...given(call.body), throwHttpErrors: false, retry: 0 }))
      .status
  },
  superagent: async (call) => {
    const request = superagent(call.method, urlOf(call)).ok(() => true)
    return (await request.set(headersOf(call)).send(call.body)).status
  },
}
const given = (body: string | undefined): { body?: string } => (body === undefined ? {} : { body })

const run = promisify(execFile)
const curl: Client = async (call) => {
  const { method, type, body } = call
  const headers = type === undefined ? [] : ['-H', `content-type: ${type}`]
  const data = body === undefined ? [] : ['--data-binary', body]
  const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '-X', method, ...headers, ...data, urlOf(call)]
  return Number((await run('curl', args)).stdout)
}

/** A program that reads calls as lines and writes a status for each. */
function program(command: string, args: string[]): Client {
  const child = spawn(command, [...args, gateway.url], { stdio: ['pipe', 'pipe', 'inherit'] })
  after(() => child.stdin.end())
  const lines = createInterface(child.stdout)
  return async ({ method, path, type, body }) => {
    const line = once(lines, 'line')
    child.stdin.write(`${JSON.stringify([method, path, type ?? null, body ?? null])}\n`)
    return Number((await line)[0])
  }
}

const PROGRAMS: Record<string, () => Client> = {
  curl: () => curl,
  "Python's urllib": () => program('python3', ['test/interop/http_client.py', 'urllib']),
  requests: () => program('python3', ['test/interop/http_client.py', 'requests']),
  "PHP's curl": () => program('php', ['test/interop/http_client.php']),
  "Perl's HTTP::Tiny": () => program('perl', ['test/interop/http_client.pl']),
}
const clients = { ...Object.fromEntries(Object.entries(IN_NODE).map(([name, client]) => [name, () => client])), ...PROGRAMS }

const JSON_TYPE = 'application/json; charset=utf-8'
const leaseOf = async (queue: string): Promise<string> =>
  (await gateway.get(`/queues/${queue}/messages?wait=5s`).expect(200)).body.messages[0].lease.id

/** Sends one call of every kind with a client, and returns each call whose status is another one than expected. */
async function everyCall(send: Client): Promise<string[]> {
  const queue = freshName()
  const wrong: string[] = []
  const expect = async (status: number, method: Method, path: string, body?: string, type?: string) => {
    const got = await send({ method, path, body, type })
    if (got !== status) wrong.push(`${method} ${path} ${type ?? 'without a type'} ${JSON.stringify(body)}: ${got}, not ${status}`)
  }
  const messages = `/queues/${queue}/messages`
  await expect(201, 'PUT', `/queues/${queue}`, '{"durable": true}', JSON_TYPE)
  await expect(200, 'PUT', `/queues/${queue}`)
  await expect(200, 'PUT', `/queues/${queue}`, '')
  await expect(201, 'POST', messages, '{"n": 1}', JSON_TYPE)
  await expect(201, 'POST', messages, 'n=2')
  await expect(200, 'POST', `${messages}/batch`, '{"messages": [{"payload": 3}]}', JSON_TYPE)
  await expect(200, 'POST', `${messages}/batch`, '{"payload": 4}\n{"payload": 5}\n', 'application/x-ndjson')
  await expect(415, 'POST', `${messages}/batch`, 'a,b', 'text/csv')
  await expect(200, 'GET', `${messages}?ack=requeue`)
  let lease = await leaseOf(queue)
  await expect(200, 'POST', `/leases/${lease}/extend`)
  await expect(200, 'POST', `/leases/${lease}/extend`, '{"lease": "20s"}', JSON_TYPE)
  await expect(204, 'POST', `/leases/${lease}/nack`, '{"requeue": false}', JSON_TYPE)
  lease = await leaseOf(queue)
  await expect(204, 'POST', `/leases/${lease}/ack`, '')
  lease = await leaseOf(queue)
  await expect(204, 'POST', `/leases/${lease}/ack`)
  lease = await leaseOf(queue)
  await expect(200, 'POST', '/leases/settle', `{"ack": ["${lease}"]}`, JSON_TYPE)
  await expect(201, 'PUT', `/queues/${queue}/retry-policy`, '{"max_deliveries": 3}', JSON_TYPE)
  await expect(204, 'DELETE', `/queues/${queue}/retry-policy`)
  await expect(204, 'PUT', `/exchanges/amq.topic/bindings/queues/${queue}?routing_key=a`)
  await expect(204, 'PUT', `/exchanges/amq.topic/bindings/queues/${queue}?routing_key=a`, '')
  await expect(200, 'DELETE', messages)
  await expect(204, 'DELETE', `/queues/${queue}`)
  await expect(404, 'GET', `/queues/${queue}`)
  return wrong
}

describe('HTTP libraries with their default headers', () => {
  for (const [name, start] of Object.entries(clients))
    it(`every kind of call works with ${name}`, async () => {
      assert.deepEqual(await everyCall(start()), [])
    })
})
