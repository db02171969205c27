// The committed OpenAPI document is the one that the routes generate.

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

// No broker listens at this URL: the document does not need one.
const app = await buildApp(loadConfig({ AMQP_URL: 'amqp://127.0.0.1:1', LOG_LEVEL: 'silent', METRICS: 'on', DOCS: 'on' }))
after(app.close)
await app.http.ready()
const document = JSON.parse(JSON.stringify(app.http.swagger())) as {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, unknown> }
}
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
)

describe('OpenAPI document', () => {
  it('openapi/openapi.json is what the routes generate', () => {
    assert.deepEqual(JSON.parse(readFileSync('openapi/openapi.json', 'utf8')), document)
  })

  it('/openapi.json serves the document of the routes', async () => {
    const response = await app.http.inject('/openapi.json')
    assert.equal(response.statusCode, 200)
    assert.deepEqual(response.json(), document)
  })

  it('the document is OpenAPI 3.1, and each operation has a unique id, a summary and a tag', () => {
    assert.match(document.openapi, /^3\.1\./)
    const ids = operations.map(({ operation }) => operation.operationId)
    assert.equal(new Set(ids).size, ids.length)
    for (const { name, operation } of operations) {
      assert.ok(operation.summary && operation.operationId, name)
      assert.equal(operation.tags.length, 1, name)
    }
  })

  it('every error response of the document is a Problem', () => {
    for (const { name, operation } of operations) {
      for (const [status, { content }] of Object.entries(operation.responses)) {
        if (Number(status) < 400 || name === 'get /health/ready') continue
        const schema = content?.['application/problem+json']?.schema
        assert.equal(schema?.$ref, '#/components/schemas/Problem', `${name} ${status}`)
      }
    }
  })

  it('the document references all of its schemas and no others', () => {
    const text = JSON.stringify(document)
    const named = new Set([...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name!))
    assert.deepEqual([...named].sort(), Object.keys(document.components.schemas).sort())
  })
})
