// Requests generated from the operations of the OpenAPI document: half of them careful, with nothing wrong on purpose, and half
// with a mistake in any part.

import fc from 'fast-check'
import { openapi } from './contract.js'
import { fromSchema, headers as headerTable, type JsonSchema, odd, oddText } from './generate.js'
import type { RawRequest } from './http.js'

interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  schema: JsonSchema
}
interface Operation {
  path: string
  method: string
  operationId: string
  parameters?: Parameter[]
  requestBody?: { content: Record<string, { schema: JsonSchema }> }
}
type Text = fc.Arbitrary<string>

const { schemas } = openapi.components
const operations = Object.entries(openapi.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ ...operation, path, method }) as unknown as Operation),
)
/** Weights: enough messages are published to be received and settled, and not all are deleted before. */
const OFTEN: Record<string, number> = {
  publishToQueue: 10,
  receive: 10,
  receiveMessages: 5,
  deleteQueue: 1,
  purgeQueue: 1,
  live: 1,
  ready: 1,
  metrics: 1,
}

/** A placeholder for the id of a lease that the gateway has given out. The sender of the request replaces it. */
export const A_LEASE = 'a-lease-of-this-run'

// The arguments that brokers know, without x-queue-master-locator, which crashes some versions and has tests of its own.
const ARGUMENTS = `x-max-length x-max-length-bytes x-message-ttl x-expires x-dead-letter-exchange x-dead-letter-routing-key
  x-max-priority x-queue-mode x-queue-type x-single-active-consumer x-queue-leader-locator x-delivery-limit x-max-age
  x-queue-version x-overflow x-dead-letter-strategy x-max-in-memory-length alternate-exchange x-match CC BCC`.split(/\s+/)
const wellKnown = fc.dictionary(
  fc.constantFrom(...ARGUMENTS),
  fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.constantFrom('all', 'any', 'lazy', 'classic', 'quorum', '1h'), odd),
  { maxKeys: 3 },
)
const table = fc.oneof(headerTable, wellKnown)

const json = (value: unknown): string => JSON.stringify(value) ?? 'null'
const percent = (text: string): string => encodeURIComponent(text.toWellFormed())
const rawPath = (text: string): string => text.replace(/[^\x21-\x7e]|[?#]/g, percent)
/** The text as a header value, without characters that no HTTP client can send. */
const headerValue = (text: string): string =>
  Buffer.from(text)
    .toString('latin1')
    .replace(/[^\t\x20-\x7e\x80-\xff]/g, '')

const oneOf = <T>(...choices: [weight: number, arbitrary: fc.Arbitrary<T>][]): fc.Arbitrary<T> =>
  fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })))
const none = fc.constant<string[]>([])

/** Names with the owner as prefix, so that no owner deletes the queue of another. */
function names(owner: string, careful: boolean): Text {
  const right = oneOf(
    [12, fc.constantFrom('a', 'b', 'c', 'ü/ß').map((name) => percent(`${owner}.${name}`))],
    [1, fc.constantFrom('amq.default', 'amq.topic', 'amq.headers', 'missing')],
  )
  if (careful) return right
  return oneOf(
    [4, right],
    [1, fc.constantFrom('amq.nope', '', '%', '%zz', '%00', '%ff')],
    [2, oddText.map((text) => percent(`${owner}.${text}`))],
    [1, oddText.map((text) => rawPath(`${owner}.${text}`))],
  )
}

const leaseIds = (careful: boolean): Text =>
  careful
    ? fc.constant(A_LEASE)
    : oneOf([2, fc.constant(A_LEASE)], [1, oddText.map(percent)], [1, fc.base64String({ maxLength: 60 }).map(percent)])

const vhosts = (own: string, careful: boolean): Text =>
  oneOf(
    [30, fc.constant('')],
    [5, fc.constant(`/vhosts/${own}`)],
    [careful ? 0 : 2, oddText.map((text) => `/vhosts/${percent(`${own}.${text}`)}`)],
  )

/** Valid values of parameters whose schema does not describe them fully. None of them waits for long. */
const FITTING: Record<string, Text> = {
  wait: fc.constantFrom('0', '0s', '0ms'),
  timeout: fc.constantFrom('100ms', '200ms'),
  offset: fc.constantFrom('first', 'last', 'next', '0', '2026-01-01T00:00:00Z'),
  lease: fc.constantFrom('1s', '30s', '5m', '2'),
  routing_key: fc.constantFrom('', 'a', 'a.b', '#', 'ü'),
  arguments: table.map(json),
}

function query({ name, schema }: Parameter, careful: boolean): fc.Arbitrary<string[]> {
  const right = FITTING[name] ?? fromSchema(schema, schemas).map(String)
  const given = right.map((text) => [`${name}=${percent(text)}`])
  const wrong = /^(wait|timeout)$/.test(name) ? fc.constantFrom('', '-1', 'x', '1e3', '0x', '99999999999999') : oddText
  if (name === 'timeout') return oneOf([4, given], [careful ? 0 : 1, wrong.map((text) => [`timeout=${percent(text)}`])])
  if (careful) return oneOf([2, none], [1, given])
  const value = oneOf([1, right], [1, wrong])
  return oneOf(
    [6, none],
    [3, given],
    [1, wrong.map((text) => [`${name}=${percent(text)}`])],
    [1, wrong.map((text) => [`${name}=${rawPath(text).replaceAll('&', '')}`])],
    [1, fc.tuple(value, value).map((two) => two.map((text) => `${name}=${percent(text)}`))],
  )
}

function header({ name }: Parameter, careful: boolean): fc.Arbitrary<[string, string][]> {
  const absent = fc.constant<[string, string][]>([])
  const given = (text: string): [string, string][] => [[name, headerValue(text)]]
  const tables = table.map((value) => given(json(value)))
  if (careful) return name === 'amqp-headers' ? oneOf([2, absent], [1, tables]) : absent
  const values = oneOf([3, oddText], [1, fc.nat(300).map(String)], [name === 'amqp-headers' ? 3 : 0, odd.map(json)])
  return oneOf([name === 'amqp-headers' ? 2 : 8, absent], [1, values.map(given)])
}

const GARBAGE = [
  '',
  '{',
  'null',
  '[]',
  '{"a":1e999}',
  '{"arguments":{"a":1e999}}',
  '{"arguments":{"a":-1e300}}',
  '\ufeff{}',
  '\u0000',
]
GARBAGE.push('['.repeat(5000), `${'['.repeat(5000)}${']'.repeat(5000)}`, '{"type":"direct","type":1}', 'a=b')

/** No generated body makes a request wait. */
function withoutWait(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || !('wait' in body)) return body
  const { wait: _wait, ...rest } = body
  return rest
}

/** A body that matches the schema or, unless careful, one with a wrong or an unknown member, or any text. */
function jsonBody(schema: JsonSchema, careful: boolean): Text {
  const resolved = (schema.$ref ? schemas[schema.$ref.split('/').pop()!] : schema) as JsonSchema
  const members = Object.keys(resolved.properties ?? {})
  const generated = fromSchema(resolved, schemas).map(withoutWait)
  const leases = fc.array(careful ? fc.constant(A_LEASE) : fc.oneof(fc.constant(A_LEASE), oddText), { maxLength: 4 })
  const settle = fc.record({ ack: leases, nack: leases.map((ids) => ids.map((id) => ({ id }))) }, { requiredKeys: [] })
  const right = oneOf<unknown>(
    [2, generated],
    [
      members.includes('arguments') ? 2 : 0,
      fc.tuple(generated, table).map(([value, table]) => ({ ...(value as object), arguments: table })),
    ],
    [members.includes('nack') ? 6 : 0, settle],
  )
  if (careful) return right.map(json)
  const named = fc.constantFrom(...members.filter((name) => name !== 'wait'), 'more', '__proto__', 'constructor')
  const changed = fc.tuple(right, named, odd).map(([value, name, member]) => ({ ...(value as object), [name]: member }))
  return oneOf([2, right.map(json)], [3, changed.map(json)], [1, odd.map(json)], [1, fc.constantFrom(...GARBAGE)])
}

interface Content {
  type: string
  body: Buffer | string | undefined
}

const EVENT = { specversion: '1.0', id: '1', source: '/fuzz', type: 'a.b', data: { a: 1 } }

/** A body with a content type of the operation or, unless careful, sometimes with another one. */
function contents({ requestBody }: Operation, careful: boolean): fc.Arbitrary<Content> {
  if (!requestBody) return fc.constant({ type: '', body: undefined })
  const { content } = requestBody
  const bytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
  const choices = Object.entries(content).map(([type, { schema }]): fc.Arbitrary<Content> => {
    const resolved = (schema.$ref ? schemas[schema.$ref.split('/').pop()!] : schema) as JsonSchema
    const item = resolved.properties?.['messages']?.items ?? resolved
    let body: fc.Arbitrary<Buffer | string> = jsonBody(schema, careful)
    if ('application/octet-stream' in content) body = bytes
    else if (/ndjson/.test(type)) body = fc.array(jsonBody(item, careful), { maxLength: 4 }).map((lines) => lines.join('\n'))
    else if (/cloudevents/.test(type)) body = fc.array(careful ? fc.constant(EVENT) : fc.oneof(fc.constant(EVENT), odd)).map(json)
    return fc.record({ type: fc.constant(type), body })
  })
  const right = fc.oneof(...choices)
  if (careful) return right
  const types = oneOf(
    [1, fc.constantFrom('application/json; charset=utf-8', 'application/a+json', 'text/plain', 'json', '/', 'a'.repeat(300))],
    [1, oddText.map(headerValue)],
  )
  return oneOf([6, right], [1, fc.tuple(types, right).map(([type, { body }]) => ({ type, body }))])
}

function requests(operation: Operation, owner: string, vhost: string, careful: boolean): fc.Arbitrary<RawRequest> {
  const { path, method, parameters = [] } = operation
  const inside = (part: Parameter['in']) => parameters.filter((one) => one.in === part)
  return fc
    .record({
      base: /^\/(health|metrics)/.test(path) ? fc.constant('') : vhosts(vhost, careful),
      values: fc.tuple(...inside('path').map(({ name }) => (name === 'id' ? leaseIds(careful) : names(owner, careful)))),
      queries: fc.tuple(...inside('query').map((one) => query(one, careful))),
      unknown: oneOf([15, none], [careful ? 0 : 1, oddText.map((text) => [`${percent(text)}=1`])]),
      headers: fc.tuple(...inside('header').map((one) => header(one, careful))),
      content: contents(operation, careful),
      accept: fc.constantFrom('*/*', 'application/json', 'application/octet-stream', 'text/html', 'application/x-ndjson'),
      method: oneOf([25, fc.constant(method)], [careful ? 0 : 1, fc.constantFrom('patch', 'options', 'propfind', 'post')]),
    })
    .map(({ base, values, queries, unknown, headers, content: { type, body }, accept, method }) => {
      const filled = inside('path').reduce((result, { name }, i) => result.replace(`{${name}}`, () => values[i]!), path)
      const search = [...queries.flat(), ...unknown].join('&')
      return {
        method,
        path: `${base}${filled}${search && `?${search}`}`,
        headers: { accept, ...(body !== undefined && { 'content-type': type }), ...Object.fromEntries(headers.flat()) },
        body,
        leave: path.endsWith('/stream'),
      }
    })
}

/** Requests of all operations. @param owner the prefix of names @param vhost the vhost of some of the requests */
export function anyRequest(owner: string, vhost: string): fc.Arbitrary<RawRequest> {
  return oneOf(
    ...operations.map((operation): [number, fc.Arbitrary<RawRequest>] => [
      OFTEN[operation.operationId] ?? 2,
      fc.oneof(requests(operation, owner, vhost, true), requests(operation, owner, vhost, false)),
    ]),
  )
}
