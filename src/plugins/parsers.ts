// Request bodies and queries: JSON whose numbers keep their digits, and validation that neither drops nor converts members.
// Answers are serialized by their schemas.

import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifyInstance, FastifySchemaCompiler, FastifySerializerCompiler } from 'fastify'
import fp from 'fastify-plugin'
import { schemas } from '../../openapi/document.js'
import { parseExact } from '../messages/exact-json.js'
import { mediaTypeOf, textOf } from '../messages/media-type.js'
import { Problem } from '../problems.js'
import { unsupportedType } from './mistakes.js'

const MAX_JSON_BYTES = 1024 * 1024
/** `application/json`, and every `application/*+json`. */
const JSON_TYPES = /^application\/(?:[\w.-]+\+)?json$/

/**
 * Makes a scope parse JSON bodies of a media type, of up to 1 MiB. An empty body is undefined, whatever its type. Malformed JSON
 * is Problem `invalid_request`, any other type `unsupported_media_type`.
 *
 * Parsers belong to the scope they are added to and to the scopes inside it. A scope with other bodies calls
 * `removeAllContentTypeParsers()` and adds its own, for instance `acceptJson(scope, 'application/x-amz-json-1.0')`.
 */
export function acceptJson(scope: FastifyInstance, type: string | RegExp = JSON_TYPES): void {
  // Chosen here and not by the framework: only a parser of all types can tell that a body is empty.
  scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: MAX_JSON_BYTES }, (request, bytes, done) => {
    if (bytes.length === 0 || request.is404) return done(null, undefined)
    const { essence = '', charset } = mediaTypeOf(request.headers['content-type']) ?? {}
    if (typeof type === 'string' ? essence !== type : !type.test(essence)) return done(unsupportedType(request))
    try {
      done(null, parseJson(textOf(bytes as Buffer, charset)))
    } catch (error) {
      done(error as Problem)
    }
  })
}

/** @throws Problem invalid_request */
function parseJson(text: string): unknown {
  try {
    return parseExact(text)
  } catch (error) {
    const detail = `is not JSON: ${(error as Error).message.slice(0, 200)}`
    throw new Problem('invalid_request', `/body ${detail}`, { errors: [{ pointer: '/body', detail }] })
  }
}

/** The default of all scopes: an absent body counts as `{}`, and requests are validated by their schemas. */
export const parsers = fp(async (app: FastifyInstance) => {
  app.removeAllContentTypeParsers()
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined && request.routeOptions.schema?.body) request.body = {}
    done()
  })

  // The values of a query arrive as strings and have to be converted; a JSON body has types.
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
  app.setSerializerCompiler(serializerCompiler(app))
})

/**
 * Compiles each distinct schema of an answer once. The routes share few of them, such as the problem document, and every
 * compilation takes milliseconds: without this, most of the time until the gateway listens.
 */
function serializerCompiler(app: FastifyInstance): FastifySerializerCompiler<unknown> {
  const compile = SerializerSelector()(app.getSchemas(), {})
  const compiled = new Map<string, ReturnType<typeof compile>>()
  return (route) => {
    const key = JSON.stringify(route.schema)
    const serializer = compiled.get(key) ?? compile(route as never)
    compiled.set(key, serializer)
    return serializer
  }
}

function validator(coerceTypes: boolean): Ajv {
  const ajv = new Ajv({
    coerceTypes,
    removeAdditional: false,
    useDefaults: true,
    allErrors: true,
    verbose: true, // errors have their schema, whose members are what a misspelt one may have meant
    strictTypes: false,
    allowUnionTypes: true,
  })
  addFormats.default(ajv)
  ajv.addVocabulary(['example'])
  for (const schema of schemas) ajv.addSchema(schema)
  return ajv
}
