// JSON Web Tokens (RFC 7519): who a token stands for. Signed by keys of which only the public half is known here, with scopes in
// the grammar of RabbitMQ's OAuth 2 plugin, so that a token made for that is one for here.

import { hash, type webcrypto } from 'node:crypto'
import {
  calculateJwkThumbprint,
  errors,
  exportJWK,
  type JWTPayload,
  type JWTVerifyOptions,
  type JWTVerifyResult,
  jwtVerify,
} from 'jose'
import type { Config } from '../config/index.js'
import type { Log } from '../lib/log.js'
import { Problem } from '../problems.js'
import type { Identity } from './identity.js'
import { Jwks } from './jwks.js'
import { headerError } from './key-file.js'
import { type Grant, parseGrant, Rights } from './rights.js'

/** None of them is made with a secret: who can check a token can't make one. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
const MAX_REMEMBERED_TOKENS = 10_000
const MAX_SCOPES = 1000

/** Milliseconds since 1970 up to which a timer may be set, and a date be made. */
const END_OF_TIME_MS = 8.64e15

/** Why a token is refused, in words for its owner. */
export class TokenRefused extends Error {}

export class JwtVerifier {
  readonly #config: Config
  readonly #keys: Jwks
  readonly #options: JWTVerifyOptions
  /** Tokens that were good, by their digests, in order of their last use. */
  readonly #checked = new Map<string, Identity>()

  /** @throws KeySetError with what is wrong with the file of keys */
  constructor(config: Config, log: Log) {
    this.#config = config
    this.#keys = new Jwks(config, log)
    this.#options = {
      algorithms: ALGORITHMS,
      requiredClaims: ['exp'],
      ...(config.JWT_ISSUER && { issuer: config.JWT_ISSUER }),
      ...(config.JWT_AUDIENCE && { audience: config.JWT_AUDIENCE }),
    }
    warnOf(config, log)
  }

  /** Why no token can be checked; undefined where they can. */
  get notReady(): string | undefined {
    return this.#keys.loaded ? undefined : "the keys that tokens are signed with can't be had"
  }

  /** Whether it could be one at all: three parts with dots between. */
  static looksLikeOne(secret: string): boolean {
    return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(secret)
  }

  /**
   * Whose token it is. One that was good is known for as long as it lasts and its key does.
   * @throws TokenRefusal; Problem authority_unavailable
   */
  find(token: string): Identity | Promise<Identity> {
    const digest = hash('sha256', token)
    const known = this.#checked.get(digest)?.current()
    if (!known) return this.#check(token, digest)
    this.#remember(digest, known)
    return known
  }

  reload(): void {
    this.#keys.reload()
  }

  close(): void {
    this.#keys.close()
  }

  async #check(token: string, digest: string): Promise<Identity> {
    this.#checked.delete(digest)
    try {
      const { payload, key } = await this.#verify(token)
      const thumbprint = await calculateJwkThumbprint(await exportJWK(key))
      const identity = this.#identity(payload, thumbprint, digest)
      this.#remember(digest, identity)
      return identity
    } catch (error) {
      if (error instanceof Problem || error instanceof TokenRefused) throw error
      throw new TokenRefused(tokenRefusalReason(error))
    }
  }

  async #verify(token: string): Promise<JWTVerifyResult & { key: webcrypto.CryptoKey }> {
    try {
      return (await jwtVerify(token, this.#keys.resolve, this.#options)) as JWTVerifyResult & { key: webcrypto.CryptoKey }
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
      // The token does not name its key: whichever fits.
      for await (const key of error) {
        try {
          return { ...(await jwtVerify(token, key, this.#options)), key }
        } catch (other) {
          if (!(other instanceof errors.JWSSignatureVerificationFailed)) throw other
        }
      }
      throw new errors.JWSSignatureVerificationFailed()
    }
  }

  #identity(payload: JWTPayload, thumbprint: string, digest: string): Identity {
    const expiresAt = Math.min(payload.exp! * 1000, END_OF_TIME_MS)
    const identity: Identity = {
      name: `token ${clientNameOf(payload) ?? digest.slice(0, 16)}`,
      rights: new Rights(this.#grants(payload)),
      headers: this.#headers(payload),
      setsUserId: false,
      current: () => (expiresAt > Date.now() && this.#keys.has(thumbprint) ? identity : undefined),
    }
    return identity
  }

  /** Other scopes, of which most tokens have some, mean nothing here. */
  #grants({ scope }: JWTPayload): Grant[] {
    const scopes = typeof scope === 'string' ? scope.split(' ') : Array.isArray(scope) ? scope : []
    return scopes.slice(0, MAX_SCOPES).flatMap((one: unknown) => {
      const right = typeof one === 'string' ? this.#withoutPrefix(one) : undefined
      try {
        return right === undefined ? [] : [parseGrant(right)]
      } catch {
        return []
      }
    })
  }

  #withoutPrefix(scope: string): string | undefined {
    const { JWT_SCOPE_PREFIX, JWT_AUDIENCE } = this.#config
    const prefix = JWT_SCOPE_PREFIX ?? JWT_AUDIENCE
    if (prefix !== '') {
      for (const start of [`${prefix}.`, prefix]) if (scope.startsWith(start)) return scope.slice(start.length)
      // As RabbitMQ has it: where a prefix was named, what does not have it is for somebody else.
      if (JWT_SCOPE_PREFIX !== undefined) return undefined
    }
    return scope
  }

  #headers(payload: JWTPayload): Record<string, string> | undefined {
    const { JWT_HEADERS } = this.#config
    if (JWT_HEADERS.length === 0) return undefined
    return Object.fromEntries(
      JWT_HEADERS.map(({ header, claim }) => {
        const value = payload[claim]
        const text = typeof value === 'number' ? String(value) : value
        // Without it his messages would pass for nobody's, or for whose he likes.
        if (headerError(header, text) !== undefined) throw new TokenRefused(`The token has no fitting claim ${claim}.`)
        return [header, text as string]
      }),
    )
  }

  #remember(digest: string, identity: Identity): void {
    this.#checked.delete(digest)
    this.#checked.set(digest, identity)
    if (this.#checked.size > MAX_REMEMBERED_TOKENS) this.#checked.delete(this.#checked.keys().next().value!)
  }
}

/** Printable, and no longer than a line of the log can bear. */
function clientNameOf({ sub, client_id: clientId, azp }: JWTPayload): string | undefined {
  const owner = [sub, clientId, azp].find((one) => typeof one === 'string' && one !== '') as string | undefined
  return owner?.replace(/[^\x20-\x7e]/g, '?').slice(0, 128)
}

/** jose says in its own words which check failed; of what is in the token only the name of a claim. */
function tokenRefusalReason(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'The token has expired.'
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf') return 'The token is not valid yet.'
    return error.reason === 'missing' ? `The token has no claim ${error.claim}.` : `The token's claim ${error.claim} is another.`
  }
  return 'The token is not one that is known here.'
}

/** What is open to more than one may mean. */
function warnOf(config: Config, log: Log): void {
  if (!config.JWT_AUDIENCE) log.warn({}, 'JWT_AUDIENCE is not set: tokens that were made for others are taken too')
  if (!config.JWT_ISSUER) log.warn({}, 'JWT_ISSUER is not set: whoever has a key in the key set may issue tokens')
  if (config.JWT_JWKS_URL.startsWith('http://'))
    log.warn({}, 'JWT_JWKS_URL is not https: who is in between can put keys of his own in')
}
