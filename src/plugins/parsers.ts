// Bodies and queries: JSON that keeps its numbers, and validation that neither drops nor guesses.

import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance, FastifySchemaCompiler } from 'fastify'
import fp from 'fastify-plugin'
import { schemas } from '../../openapi/document.js'
import { parseExact } from '../messages/exact-json.js'
import { Problem } from '../problems.js'

const MAX_JSON = 1024 * 1024

export const parsers = fp(async (app: FastifyInstance) => {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    /^application\/(?:[\w.-]+\+)?json$/,
    { parseAs: 'string', bodyLimit: MAX_JSON },
    (_request, text, done) => {
      if (text.length === 0) {
        done(null, undefined)
        return
      }
      try {
        done(null, parseExact(text as string))
      } catch (error) {
        const detail = `is not JSON: ${(error as Error).message.slice(0, 200)}`
        done(new Problem('invalid_request', `/body ${detail}`, { errors: [{ pointer: '/body', detail }] }))
      }
    },
  )
  // No body at all is an empty one, where every member is optional.
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined && request.routeOptions.schema?.body) request.body = {}
    done()
  })

  // Only a query's values come as strings and have to be turned; a JSON body says what it means.
  const query = validator(true)
  const strict = validator(false)
  const compile: FastifySchemaCompiler<unknown> = ({ schema, httpPart }) => {
    const validate = (httpPart === 'querystring' ? query : strict).compile(schema as object)
    return (data) => {
      if (validate(data)) return { value: data }
      return { error: Object.assign(new Error('invalid'), { validation: validate.errors, validationContext: httpPart }) as never }
    }
  }
  app.setValidatorCompiler(compile)
  for (const schema of schemas) app.addSchema(schema)
})

function validator(coerce: boolean): Ajv {
  const ajv = new Ajv({
    coerceTypes: coerce,
    removeAdditional: false,
    useDefaults: true,
    allErrors: true,
    strictTypes: false,
    allowUnionTypes: true,
  })
  addFormats.default(ajv)
  ajv.addVocabulary(['example'])
  for (const schema of schemas) ajv.addSchema(schema)
  return ajv
}
