// The file of API keys: its form, and everything that can be wrong with it.

import { type Grant, parseGrant } from './rights.js'

export interface KeyEntry {
  name: string
  /** SHA-256 of the key, in hex. */
  sha256: string
  grants: Grant[]
  /** Milliseconds since 1970. */
  expiresAt: number | undefined
  headers: Record<string, string> | undefined
  setsUserId: boolean
}

const KEY_MEMBERS = ['name', 'sha256', 'rights', 'expires_at', 'headers', 'user_id']
const RFC3339_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i
const MAX_STAMPED_HEADERS = 16

/**
 * Reads the text of a key file.
 * @throws KeyFileError with every mistake in it; no mistake shows a digest
 */
export function readKeyFile(text: string): KeyEntry[] {
  const mistakes: string[] = []
  const list = readKeyList(text, mistakes)
  const entries = list.map((item, index) => readKeyEntry(item, `keys[${index}]`, mistakes))
  for (const member of ['name', 'sha256'] as const) {
    const seen = new Map<string, number>()
    for (const [index, entry] of entries.entries()) {
      const value = entry?.[member]
      if (!value) continue
      if (seen.has(value)) mistakes.push(`keys[${index}].${member} is the same as that of keys[${seen.get(value)}]`)
      else seen.set(value, index)
    }
  }
  if (mistakes.length > 0) throw new KeyFileError(mistakes)
  return entries as KeyEntry[]
}

export class KeyFileError extends Error {
  readonly mistakes: string[]
  constructor(mistakes: string[]) {
    super(mistakes.join('; '))
    this.mistakes = mistakes
  }
}

function readKeyList(text: string, mistakes: string[]): unknown[] {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // The parser's own words would show a piece of the file.
    mistakes.push('is not JSON')
    return []
  }
  if (!isObject(json) || !Array.isArray(json['keys'])) {
    mistakes.push('is not an object {"keys": […]}')
    return []
  }
  for (const name of Object.keys(json)) if (name !== 'keys') mistakes.push(`has a member that is not known: ${name.slice(0, 64)}`)
  return json['keys']
}

function readKeyEntry(item: unknown, at: string, mistakes: string[]): KeyEntry | undefined {
  if (!isObject(item)) {
    mistakes.push(`${at} is not an object`)
    return undefined
  }
  const wrong = (member: string, what: string) => mistakes.push(`${at}.${member} ${what}`)
  for (const name of Object.keys(item)) if (!KEY_MEMBERS.includes(name)) wrong(name.slice(0, 64), 'is not known')
  const { name, sha256, rights, expires_at: expires, headers, user_id: userId } = item
  const isName = typeof name === 'string' && /^[\w.@-][\w.@ -]{0,127}$/.test(name)
  if (!isName) wrong('name', 'must be 1 to 128 letters, digits, spaces and any of . _ @ -')
  const isDigest = typeof sha256 === 'string' && /^[0-9a-f]{64}$/i.test(sha256)
  if (!isDigest) wrong('sha256', 'must be 64 hexadecimal digits: the SHA-256 of the key')
  if (expires !== undefined && !isTime(expires)) wrong('expires_at', 'must be a time like 2030-01-31T00:00:00Z')
  if (userId !== undefined && typeof userId !== 'boolean') wrong('user_id', 'must be true or false')
  return {
    name: isName ? name : '',
    sha256: isDigest ? sha256.toLowerCase() : at,
    grants: readRights(rights, at, mistakes),
    expiresAt: isTime(expires) ? Date.parse(expires) : undefined,
    headers: readStampedHeaders(headers, at, mistakes),
    setsUserId: userId === true,
  }
}

function readRights(rights: unknown, at: string, mistakes: string[]): Grant[] {
  if (!Array.isArray(rights)) {
    mistakes.push(`${at}.rights must be a list like ["read:%2F/orders.*"]`)
    return []
  }
  return rights.flatMap((scope: unknown, index) => {
    try {
      return [parseGrant(String(scope))]
    } catch (error) {
      mistakes.push(`${at}.rights[${index}] ${(error as Error).message}`)
      return []
    }
  })
}

function readStampedHeaders(headers: unknown, at: string, mistakes: string[]): Record<string, string> | undefined {
  if (headers === undefined) return undefined
  if (!isObject(headers) || Object.keys(headers).length > MAX_STAMPED_HEADERS) {
    mistakes.push(`${at}.headers must be an object of up to ${MAX_STAMPED_HEADERS} headers`)
    return undefined
  }
  for (const [name, value] of Object.entries(headers)) {
    const detail = headerError(name, value)
    if (detail) mistakes.push(`${at}.headers ${detail}: ${name.slice(0, 64)}`)
  }
  return headers as Record<string, string>
}

/** Headers that mean something to RabbitMQ itself are not for keys and tokens to set. */
const BROKER_HEADER_NAMES =
  /^(cc|bcc|x-death|x-delay|x-first-death-.*|x-last-death-.*|x-delivery-count|x-acquired-count|x-match|x-stream-.*)$/i

/** Why the gateway can't set this header on messages; undefined where it can. */
export function headerError(name: string, value: unknown): string | undefined {
  if (!/^[\w.:-]{1,128}$/.test(name)) return 'has a name that is not 1 to 128 letters, digits and any of . _ : -'
  if (BROKER_HEADER_NAMES.test(name)) return "has a name that is RabbitMQ's own"
  return typeof value === 'string' && value.length <= 1024 ? undefined : 'has a value that is not a text of up to 1024 characters'
}

/** The 30th of February would be read as the 2nd of March. */
const isTime = (value: unknown): value is string =>
  typeof value === 'string' &&
  RFC3339_TIME.test(value) &&
  !Number.isNaN(Date.parse(value)) &&
  new Date(`${value.slice(0, 10)}T00:00:00Z`).toISOString().startsWith(value.slice(0, 10))
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
