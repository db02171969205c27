// The OpenAPI document, generated from the routes, and Swagger UI, with all of its files served by the gateway.

import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { document } from '../../openapi/document.js'
import { catalogue } from '../../openapi/problems.js'
import { openToAll } from '../access/requirements.js'
import type { Services } from '../services.js'

/** Swagger UI writes style elements into its page; everything else is served by the gateway. */
const DOCS_CSP =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"

/** A page of text with an empty icon, so that browsers do not request one. */
const PLAIN_PAGE_CSP = "default-src 'none'; img-src data:; frame-ancestors 'none'"

/** Generates the OpenAPI document. Must be registered before the routes. */
export const openapi = fp(async (app: FastifyInstance) => {
  app.addHook('onRoute', (route) => {
    const access = route.config?.access
    if (!access || access.kind === 'open') return
    const description = [route.schema?.description, `Right: ${access.description}.`].filter(Boolean).join('\n\n')
    route.schema = { ...route.schema, description }
  })
  await app.register(swagger, {
    openapi: document as never,
    refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json.$id ?? `def-${i}`) },
  })
})

/** Serves /openapi.json, /docs, and /problems, which the `type` of every problem links to. */
export const docs = async (app: FastifyInstance, { config }: Services) => {
  const { origin = '' } = config.PUBLIC_URL ?? {}
  // A browser that opens a page sends no key. DOCS=off turns these routes off.
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, access: openToAll }
  })
  /** The document, with the address at which the client sees the gateway. */
  const servedAt = (spec: object, { publicPrefix }: FastifyRequest) =>
    origin + publicPrefix === '' ? spec : { ...spec, servers: [{ url: origin + publicPrefix }] }
  let json: string | undefined
  app.get('/openapi.json', { schema: { hide: true } }, (request, reply) => {
    const spec = app.swagger()
    const served = servedAt(spec, request)
    if (served === spec) json ??= JSON.stringify(spec)
    reply.type('application/json').send(served === spec ? json : JSON.stringify(served))
  })
  app.get('/problems', { schema: { hide: true } }, (_request, reply) =>
    reply.header('content-security-policy', PLAIN_PAGE_CSP).type('text/html; charset=utf-8').send(problemsPage()),
  )
  app.get('/', { schema: { hide: true } }, (request, reply) => reply.redirect(`${request.publicPrefix}/docs/`))

  await app.register(async (pages) => {
    pages.addHook('onSend', (_request, reply, payload, done) => {
      // Over plain HTTP only the referrer tells that a request comes from this page.
      reply.headers({ 'cache-control': 'no-store', 'referrer-policy': 'same-origin' })
      done(null, payload)
    })
    // The page at /docs names its files by absolute paths, and the one at /docs/ by relative ones.
    pages.addHook('onRequest', (request, reply, done) => {
      if (request.publicPrefix !== '' && request.url === '/docs') reply.redirect(`${request.publicPrefix}/docs/`)
      else done()
    })
    await pages.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: DOCS_CSP,
      transformSpecification: servedAt,
      transformSpecificationClone: false,
      // Without this, Swagger UI would send the document to a validator on the internet.
      uiConfig: { docExpansion: 'list', tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null },
    })
  })
}

function problemsPage(): string {
  const rows = Object.entries(catalogue)
    .map(([code, { status, title, retryAfter }]) => {
      const retry = retryAfter === undefined ? 'no' : `yes, after ${retryAfter} s`
      return `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${title}</td><td>${retry}</td></tr>`
    })
    .join('\n')
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Problems</title><link rel="icon" href="data:,"></head><body><h1>Problems</h1>
<table><thead><tr><th>code</th><th>status</th><th>meaning</th><th>retry</th></tr></thead><tbody>
${rows}
</tbody></table></body></html>`
}
