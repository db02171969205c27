// What the `Authorization` header holds. Nothing in here is ever logged.

/** Far beyond every key and every sensible token: what is longer is refused before it costs anything. */
const MAX_AUTHORIZATION_HEADER = 16 * 1024
const LAX_BASE64 = /^[A-Za-z0-9+/]+={0,2}$/

export interface Credentials {
  scheme: 'bearer' | 'basic'
  /** Of Basic; empty for a bearer token. */
  user: string
  /** The bearer token, or the password. */
  secret: string
}

/**
 * Reads the credentials of a request.
 * @param rawHeaders Node's list of names and values: of two Authorization headers its object would show one
 * @returns none: there is no such header; bad: there are several, or one that says nothing
 */
export function readCredentials(rawHeaders: readonly string[]): Credentials | 'none' | 'bad' {
  let header: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (name.length !== 13 || name.toLowerCase() !== 'authorization') continue
    if (header !== undefined) return 'bad'
    header = rawHeaders[i + 1]!
  }
  if (header === undefined) return 'none'
  if (header.length > MAX_AUTHORIZATION_HEADER) return 'bad'
  const space = header.indexOf(' ')
  const scheme = header.slice(0, space).toLowerCase()
  const value = header.slice(space + 1).trim()
  if (value === '') return 'bad'
  if (scheme === 'bearer') return { scheme, user: '', secret: value }
  return scheme === 'basic' ? readBasic(value) : 'bad'
}

function readBasic(value: string): Credentials | 'bad' {
  if (!LAX_BASE64.test(value)) return 'bad'
  const text = Buffer.from(value, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon === -1 || colon === text.length - 1) return 'bad'
  return { scheme: 'basic', user: text.slice(0, colon), secret: text.slice(colon + 1) }
}
