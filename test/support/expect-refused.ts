// Requests that are to be refused, for the tests of bad input, and the witness that nothing broke over them.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { catalogue } from '../../src/problems.js'
import { violations } from './contract.js'
import { eventually } from './eventually.js'
import type { Gateway } from './gateway.js'
import { type RawRequest, rawClient } from './http.js'
import { management } from './management.js'

export interface ProblemBody {
  status: number
  code: keyof typeof catalogue
  detail: string
  instance: string
  request_id: string
  errors?: { pointer: string; detail: string }[]
}

/** The connections of this process as the broker names them: others stand there once one has died. */
export async function brokerConnections(): Promise<string[]> {
  const all = await management<{ name: string; user_provided_name?: string }[]>('connections')
  return all
    .filter((one) => one.user_provided_name?.includes(`:${process.pid} `))
    .map(({ name, user_provided_name }) => `${name} ${user_provided_name}`)
    .sort()
}

/** As brokerConnections(), once the broker knows of all that one gateway opens for one vhost. */
export const allConnections = (): Promise<string[]> =>
  eventually(async () => {
    const found = await brokerConnections()
    assert.equal(found.length, 4)
    return found
  })

/** A client whose `refused` sends a request and expects a problem. */
export function refusals(gateway: Gateway) {
  const client = rawClient(gateway.url)
  after(client.close)

  /** The problem has this status and code and is as the document declares; `pointer` is one of the places that it names. */
  async function refused(request: RawRequest, status: number, code: string, pointer?: string): Promise<ProblemBody> {
    const { method, path } = request
    const response = await client.send(request)
    const what = `${method} ${path.slice(0, 200)} -> ${response.status} ${response.text.slice(0, 300)}`
    assert.equal(response.status, status, what)
    const contentType = response.headers['content-type'] ?? ''
    assert.equal(contentType, 'application/problem+json', what)
    // What is refused before there is a route is declared by none.
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

export const get = (path: string): RawRequest => ({ method: 'get', path })
export const remove = (path: string): RawRequest => ({ method: 'delete', path })
export const put = (
  path: string,
  body?: string,
  headers: Record<string, string> = { 'content-type': 'application/json' },
): RawRequest => (body === undefined ? { method: 'put', path } : { method: 'put', path, headers, body })
export const post = (path: string, body: string | Buffer = '', headers: Record<string, string> = {}): RawRequest => ({
  method: 'post',
  path,
  headers,
  body,
})
export const postJson = (path: string, body: string): RawRequest => post(path, body, { 'content-type': 'application/json' })
