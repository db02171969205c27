// The `Authorization` header of a request. Nothing of it is ever logged.

/** Far longer than any key and any sensible token: a longer header is refused before it costs anything. */
const MAX_AUTHORIZATION_HEADER_CHARS = 16 * 1024
const LAX_BASE64 = /^[A-Za-z0-9+/]+={0,2}$/

/** Why a request has no credentials that can be looked up. */
export type Unreadable = 'missing' | 'malformed' | 'too_long'

export interface Credentials {
  scheme: 'bearer' | 'basic'
  /** The user name of Basic; empty for a bearer token. */
  user: string
  /** The bearer token, or the password. */
  secret: string
}

/**
 * Reads the credentials of a request.
 * @param rawHeaders Node's list of names and values; its headers object would show only one of two Authorization headers
 * @returns missing: there is no such header; malformed: there are several, or one that is neither Bearer nor Basic or has no
 *   secret; too_long: longer than 16 KiB
 */
export function readCredentials(rawHeaders: readonly string[]): Credentials | Unreadable {
  let header: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (name.length !== 13 || name.toLowerCase() !== 'authorization') continue
    if (header !== undefined) return 'malformed'
    header = rawHeaders[i + 1]!
  }
  if (header === undefined) return 'missing'
  if (header.length > MAX_AUTHORIZATION_HEADER_CHARS) return 'too_long'
  const space = header.indexOf(' ')
  const scheme = header.slice(0, space).toLowerCase()
  const value = header.slice(space + 1).trim()
  if (value === '') return 'malformed'
  if (scheme === 'bearer') return { scheme, user: '', secret: value }
  return scheme === 'basic' ? readBasic(value) : 'malformed'
}

function readBasic(value: string): Credentials | 'malformed' {
  if (!LAX_BASE64.test(value)) return 'malformed'
  const text = Buffer.from(value, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon === -1 || colon === text.length - 1) return 'malformed'
  return { scheme: 'basic', user: text.slice(0, colon), secret: text.slice(colon + 1) }
}
