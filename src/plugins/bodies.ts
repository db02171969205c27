// Which requests may have a body, and in which content coding.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { invalidRequest, Problem } from '../problems.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body is a message, of any content type and content coding. */
    bodyIsMessage?: boolean
  }
}

/** Refuses bodies where a route takes none, and content codings that the gateway does not decode. */
export const bodies = fp(async (app: FastifyInstance) => {
  app.addHook('preParsing', (request, _reply, payload, done) => done(bodyProblem(request), payload))
  app.addHook('preValidation', (request, _reply, done) => {
    if (!isOurs(request) || request.routeOptions.schema?.body !== undefined) done()
    else if (request.body !== undefined) done(takesNoBody(request))
    else if (request.headers['transfer-encoding'] === undefined || request.method !== 'GET') done()
    // The framework reads no body of a GET.
    else hasBytes(request.raw).then((has) => done(has ? takesNoBody(request) : undefined), done)
  })
})

/** Whether the route is one of this API whose body is not a message. Scopes of other APIs say themselves what a body means. */
const isOurs = ({ routeOptions: { schema, config } }: FastifyRequest): boolean =>
  schema?.operationId !== undefined && config.bodyIsMessage !== true

/** Looks at the headers of a body before any of it is read. */
function bodyProblem(request: FastifyRequest): Problem | undefined {
  if (!isOurs(request)) return undefined
  const { headers } = request.raw
  const isChunked = headers['transfer-encoding'] !== undefined
  if (!isChunked && !(Number(headers['content-length']) > 0)) {
    // An empty body is no body. Many clients send a content type all the same.
    delete headers['content-type']
    return undefined
  }
  if (request.routeOptions.schema?.body === undefined) return isChunked ? undefined : takesNoBody(request)
  const coding = headers['content-encoding']
  return coding === undefined || /^\s*(?:identity\s*)?$/i.test(coding) ? undefined : codingNotDecoded(coding)
}

/** https://www.rfc-editor.org/rfc/rfc9110#section-15.5.16 */
function codingNotDecoded(coding: string): Problem {
  const detail = `The gateway does not decode ${coding.slice(0, 64)} here. Send the body as it is, without content-encoding.`
  return new Problem('unsupported_media_type', detail, { headers: { 'accept-encoding': 'identity' } })
}

function takesNoBody({ method, routeOptions: { schema } }: FastifyRequest): Problem {
  const names = Object.keys((schema?.querystring as { properties?: object } | undefined)?.properties ?? {})
  const options = names.length === 0 ? '' : `: its options are query parameters (${names.join(', ')})`
  return invalidRequest('/body', `is not known here. This ${method} takes no body${options}`)
}

async function hasBytes(body: AsyncIterable<Buffer>): Promise<boolean> {
  for await (const chunk of body) if (chunk.length > 0) return true
  return false
}
