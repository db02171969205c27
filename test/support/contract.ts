// Checks a response against openapi/openapi.json: the route declares its status, its body matches the schema, and it has the
// headers of every response.

import { readFileSync } from 'node:fs'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { Response } from 'supertest'

interface Operation {
  responses: Record<string, { content?: Record<string, unknown> }>
}

/** The committed OpenAPI document. */
export const openapi = JSON.parse(readFileSync('openapi/openapi.json', 'utf8')) as {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, unknown> }
}

const ajv = new Ajv2020({ strict: false, allErrors: true })
addFormats.default(ajv)
ajv.addSchema(openapi, 'openapi')
const validators = new Map<string, ValidateFunction>()

function validator(pointer: string): ValidateFunction {
  let validate = validators.get(pointer)
  if (!validate) {
    validate = ajv.compile({ $ref: `openapi#${pointer}` })
    validators.set(pointer, validate)
  }
  return validate
}

const inPointer = (part: string) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))
const templates = Object.keys(openapi.paths).map((path) => ({
  path,
  pattern: new RegExp(`^${path.replace(/\{[^}]+\}/g, '[^/]*')}$`),
}))
// Literal paths come before those with a parameter: /leases/settle is not the path of a lease.
templates.sort((a, b) => Number(a.path.includes('{')) - Number(b.path.includes('{')))

export interface Answer {
  method: string
  path: string
  status: number
  contentType: string
  body: unknown
}

/** The ways in which a response breaks the contract. Empty if it keeps it. */
export function violations({ method, path, status, contentType, body }: Answer): string[] {
  const bare = path.split('?', 1)[0]!.replace(/^\/vhosts\/[^/]*(?=\/)/, '')
  const problem = contentType.startsWith('application/problem+json')
  if (status >= 400 && !problem && bare !== '/health/ready')
    return [`${status} is ${contentType} instead of application/problem+json`]
  if (problem) {
    const wrong = check('/components/schemas/Problem', body)
    if (wrong.length > 0) return wrong
    if ((body as { status: number }).status !== status) return ['the problem has another status than the response']
  }
  const template = templates.find(({ path, pattern }) => pattern.test(bare) && openapi.paths[path]![method])
  if (!template)
    return status >= 400 || /^\/($|docs|openapi.json|problems)/.test(bare) ? [] : [`${method} ${bare} is not in the document`]
  const response = openapi.paths[template.path]![method]!.responses[status]
  if (!response) return [`${method} ${template.path} does not declare ${status}`]
  const type = contentType.split(';', 1)[0]!
  if (!response.content)
    return body === '' || body === undefined || Object.keys(body as object).length === 0 ? [] : [`${status} has a body`]
  if (!response.content[type])
    return 'application/octet-stream' in response.content ? [] : [`${status} is not declared as ${type}`]
  if (!/json$/.test(type)) return []
  return check(`/paths/${inPointer(template.path)}/${method}/responses/${status}/content/${inPointer(type)}/schema`, body)
}

/** The ways in which a value differs from a schema of the document, for responses that are lines of such values. */
export const checkSchema = (name: string, value: unknown): string[] => check(`/components/schemas/${name}`, value)

function check(pointer: string, body: unknown): string[] {
  const validate = validator(pointer)
  return validate(body) ? [] : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}

/** For supertest's expect(). @throws Error if the response breaks the contract */
export function checkResponse(response: Response): void {
  const { method, path } = (response as unknown as { req: { method: string; path: string } }).req
  if (method === 'HEAD') return // it has no body to check
  const raw = !/json/.test(response.headers['content-type'] ?? '')
  const wrong = violations({
    method: method.toLowerCase(),
    path,
    status: response.status,
    contentType: response.headers['content-type'] ?? '',
    body: raw ? response.text || undefined : response.body,
  })
  if (!response.headers['x-request-id']) wrong.push('x-request-id is missing')
  if (response.headers['cache-control'] !== 'no-store') wrong.push(`cache-control is ${response.headers['cache-control']}`)
  if (wrong.length > 0) throw new Error(`${method} ${path} broke the contract: ${wrong.join('; ')}`)
}
