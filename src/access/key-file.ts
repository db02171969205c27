// Reads the API key file: its schema first, then what a schema cannot say.

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import { withoutMark } from '../lib/byte-order-mark.js'
import {
  type KeyFileEntry,
  KeyFileSchema,
  MAX_STAMPED_HEADER_CHARS,
  MAX_STAMPED_HEADERS,
  STAMPED_HEADER_NAME,
} from './key-file-schema.js'
import { type Grant, parseGrant } from './rights.js'

/** One key, as the gateway uses it. */
export interface KeyEntry {
  name: string
  /** SHA-256 of the key, in lower-case hex. */
  sha256: string
  grants: Grant[]
  /** Milliseconds since 1970; undefined: never. */
  expiresAt: number | undefined
  headers: Record<string, string> | undefined
  setsUserId: boolean
}

/** Every mistake in a key file. Each says where it is, and none shows a digest. */
export class KeyFileError extends Error {
  readonly mistakes: string[]
  constructor(mistakes: string[]) {
    super(mistakes.join('; '))
    this.mistakes = mistakes
  }
}

/**
 * Reads the text of a key file.
 * @throws KeyFileError with every mistake in it
 */
export function readKeyFile(text: string): KeyEntry[] {
  let json: unknown
  try {
    json = JSON.parse(withoutMark(text))
  } catch {
    // The parser's own message would show a part of the file.
    throw new KeyFileError(['is not JSON'])
  }
  const validate = validator()
  validate(json)
  const mistakes = new Set((validate.errors ?? []).flatMap((error) => schemaMistake(error) ?? []))
  const items = (json as { keys?: unknown } | null)?.keys
  const entries = Array.isArray(items) ? items.map((item, index) => readEntry(item, `keys[${index}]`, mistakes)) : []
  for (const member of ['name', 'sha256'] as const) {
    const seen = new Map<string, number>()
    for (const [index, entry] of entries.entries()) {
      const value = entry[member]
      if (value === undefined) continue
      if (seen.has(value)) mistakes.add(`keys[${index}].${member} is the same as that of keys[${seen.get(value)}]`)
      else seen.set(value, index)
    }
  }
  if (mistakes.size > 0) throw new KeyFileError([...mistakes])
  return entries as KeyEntry[]
}

/** What the members of an entry must be, in place of the validator's messages, which name patterns. */
const EXPECTED: Readonly<Record<string, string>> = {
  name: 'must be 1 to 128 letters, digits, spaces and any of . _ @ -',
  sha256: 'must be 64 hexadecimal digits, the SHA-256 of the key',
  rights: 'must be a list like ["read:%2F/orders.*"]',
  expires_at: 'must be a time like 2030-01-31T00:00:00Z',
  headers: `must be an object of up to ${MAX_STAMPED_HEADERS} headers`,
  user_id: 'must be true or false',
}

/** A violation of the schema as a sentence that quotes no value of the file; undefined if `readEntry()` reports it. */
function schemaMistake({ instancePath, keyword, params }: ErrorObject): string | undefined {
  const [, list, index, member, item] = instancePath.split('/')
  const unknown = String(params['additionalProperty']).slice(0, 64)
  if (list === undefined || index === undefined) {
    return keyword === 'additionalProperties' ? `has an unknown member: ${unknown}` : 'is not an object {"keys": […]}'
  }
  const at = `keys[${index}]`
  if (member === undefined) {
    if (keyword === 'additionalProperties') return `${at}.${unknown} is unknown`
    if (keyword === 'required') return `${at}.${params['missingProperty']} ${EXPECTED[params['missingProperty']]}`
    return `${at} is not an object`
  }
  const isInside = item !== undefined || (member === 'headers' && keyword === 'additionalProperties')
  return isInside ? undefined : `${at}.${member} ${EXPECTED[member]}`
}

/** Reads an entry and checks what the schema cannot: percent-encoding, times, the names of RabbitMQ's own headers. */
function readEntry(item: unknown, at: string, mistakes: Set<string>): Partial<KeyEntry> {
  if (!isObject(item)) return {}
  const { name, sha256, rights, expires_at: expires, headers, user_id: userId } = item as { [N in keyof KeyFileEntry]: unknown }
  const expiresAt = typeof expires === 'string' ? Date.parse(expires) : undefined
  if (Number.isNaN(expiresAt)) mistakes.add(`${at}.expires_at ${EXPECTED['expires_at']}`)
  const grants = (Array.isArray(rights) ? rights : []).flatMap((scope: unknown, index) => {
    try {
      return [parseGrant(String(scope))]
    } catch (error) {
      mistakes.add(`${at}.rights[${index}] ${(error as Error).message}`)
      return []
    }
  })
  for (const [header, value] of Object.entries(isObject(headers) ? headers : {})) {
    const mistake = headerError(header, value)
    if (mistake) mistakes.add(`${at}.headers ${mistake}: ${header.slice(0, 64)}`)
  }
  return {
    ...(typeof name === 'string' && name !== '' && { name }),
    ...(typeof sha256 === 'string' && { sha256: sha256.toLowerCase() }),
    grants,
    expiresAt,
    headers: headers as Record<string, string> | undefined,
    setsUserId: userId === true,
  }
}

/** Headers with a meaning to RabbitMQ, which keys and tokens may not set. */
const BROKER_HEADER_NAMES =
  /^(cc|bcc|x-death|x-delay|x-first-death-.*|x-last-death-.*|x-delivery-count|x-acquired-count|x-match|x-stream-.*)$/i

/** Why the gateway cannot set this header on messages; undefined if it can. */
export function headerError(name: string, value: unknown): string | undefined {
  if (!STAMPED_HEADER_NAME.test(name)) return 'has a name that is not 1 to 128 letters, digits and any of . _ : -'
  if (BROKER_HEADER_NAMES.test(name)) return 'has a name that RabbitMQ uses itself'
  return typeof value === 'string' && value.length <= MAX_STAMPED_HEADER_CHARS
    ? undefined
    : `has a value that is not a text of up to ${MAX_STAMPED_HEADER_CHARS} characters`
}

let compiled: ValidateFunction | undefined

/** The validator of the schema, compiled when the first file is read. */
function validator(): ValidateFunction {
  if (!compiled) {
    const ajv = new Ajv({ allErrors: true })
    addFormats.default(ajv)
    compiled = ajv.compile(KeyFileSchema)
  }
  return compiled
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
