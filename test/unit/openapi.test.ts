// The contract that is checked in is the one that the routes make.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, describe, it } from 'node:test'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'

interface Operation {
  operationId: string
  summary: string
  tags: string[]
  responses: Record<string, { description: string; content?: Record<string, { schema: { $ref?: string } }> }>
}

// Nobody listens there: the document needs no broker.
const app = await buildApp(loadConfig({ AMQP_URL: 'amqp://127.0.0.1:1', LOG_LEVEL: 'silent', METRICS: 'on', DOCS: 'on' }))
after(app.closeApp)
await app.http.ready()
const document = JSON.parse(JSON.stringify(app.http.swagger())) as {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, unknown> }
}
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
)

describe('openapi/openapi.json', () => {
  it('is what the routes generate', () => {
    assert.deepEqual(JSON.parse(readFileSync('openapi/openapi.json', 'utf8')), document)
  })

  it('is what the gateway serves', async () => {
    const response = await app.http.inject('/openapi.json')
    assert.equal(response.statusCode, 200)
    assert.deepEqual(response.json(), document)
  })

  it('is OpenAPI 3.1, each operation with an id of its own, a summary and a tag', () => {
    assert.match(document.openapi, /^3\.1\./)
    const ids = operations.map(({ operation }) => operation.operationId)
    assert.equal(new Set(ids).size, ids.length)
    for (const { name, operation } of operations) {
      assert.ok(operation.summary && operation.operationId, name)
      assert.equal(operation.tags.length, 1, name)
    }
  })

  it('answers every error with a problem', () => {
    for (const { name, operation } of operations) {
      for (const [status, { content }] of Object.entries(operation.responses)) {
        if (Number(status) < 400 || name === 'get /health/ready') continue
        const schema = content?.['application/problem+json']?.schema
        assert.equal(schema?.$ref, '#/components/schemas/Problem', `${name} ${status}`)
      }
    }
  })

  it('names no schema that is not there, and has none that nobody names', () => {
    const text = JSON.stringify(document)
    const named = new Set([...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name!))
    assert.deepEqual([...named].sort(), Object.keys(document.components.schemas).sort())
  })
})
