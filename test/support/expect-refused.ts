// Requests that the gateway has to refuse, for the tests of bad input, and a check that they broke no connection.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { catalogue } from '../../src/problems.js'
import { violations } from './contract.js'
import { eventually } from './eventually.js'
import type { Gateway } from './gateway.js'
import { type RawRequest, rawClient } from './http.js'
import { management } from './management.js'

/** The body of a problem response. */
export interface ProblemBody {
  status: number
  code: keyof typeof catalogue
  detail: string
  instance: string
  request_id: string
  errors?: { pointer: string; detail: string }[]
}

/** The broker's names of this process's connections. They change if a connection is lost and replaced. */
export async function brokerConnections(): Promise<string[]> {
  const all = await management<{ name: string; user_provided_name?: string }[]>('connections')
  return all
    .filter((one) => one.user_provided_name?.includes(`:${process.pid} `))
    .map(({ name, user_provided_name }) => `${name} ${user_provided_name}`)
    .sort()
}

/** Resolves with brokerConnections() once the broker lists all four connections that a gateway opens for a vhost. */
export const allConnections = (): Promise<string[]> =>
  eventually(async () => {
    const found = await brokerConnections()
    assert.equal(found.length, 4)
    return found
  })

/** A client of raw requests. `refused` sends a request and expects a problem, `send` expects nothing. */
export function refusals(gateway: Gateway) {
  const client = rawClient(gateway.url)
  after(client.close)

  /**
   * Expects a problem with this status and code that matches the OpenAPI document.
   * @param pointer one of the places that the problem has to name
   */
  async function refused(request: RawRequest, status: number, code: string, pointer?: string): Promise<ProblemBody> {
    const { method, path } = request
    const response = await client.send(request)
    const what = `${method} ${path.slice(0, 200)} -> ${response.status} ${response.text.slice(0, 300)}`
    assert.equal(response.status, status, what)
    const contentType = response.headers['content-type'] ?? ''
    assert.equal(contentType, 'application/problem+json', what)
    // A 431 is sent before there is a route, so no route declares it.
    if (status !== 431) assert.deepEqual(violations({ method, path, status, contentType, body: response.body }), [], what)
    assert.equal(response.headers['cache-control'], 'no-store')
    const problem = response.body as ProblemBody
    assert.equal(problem.code, code, what)
    assert.ok(problem.code in catalogue)
    assert.ok(problem.detail.length > 0 && problem.detail.length < 4000, what)
    assert.equal(problem.request_id, response.headers['x-request-id'])
    if (pointer)
      assert.ok(
        problem.errors?.some((error) => error.pointer === pointer),
        `${pointer} is not named: ${what}`,
      )
    return problem
  }

  return { refused, send: client.send }
}

/** A GET request. */
export const get = (path: string): RawRequest => ({ method: 'get', path })
/** A DELETE request. */
export const remove = (path: string): RawRequest => ({ method: 'delete', path })
/** A PUT request, as JSON if it has a body. */
export const put = (
  path: string,
  body?: string,
  headers: Record<string, string> = { 'content-type': 'application/json' },
): RawRequest => (body === undefined ? { method: 'put', path } : { method: 'put', path, headers, body })
/** A POST request, without a content type unless `headers` has one. */
export const post = (path: string, body: string | Buffer = '', headers: Record<string, string> = {}): RawRequest => ({
  method: 'post',
  path,
  headers,
  body,
})
/** A POST request with a JSON body. */
export const postJson = (path: string, body: string): RawRequest => post(path, body, { 'content-type': 'application/json' })
