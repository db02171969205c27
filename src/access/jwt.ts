// JSON Web Tokens (RFC 7519), verified with public keys. Their scopes have the grammar of RabbitMQ's OAuth 2 plugin, so a token
// that was issued for RabbitMQ works here too.

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
import { LruMap } from 'toad-cache'
import { type Config, ConfigError } from '../config/index.js'
import { wallTime } from '../lib/clock.js'
import type { Log } from '../lib/log.js'
import { Problem } from '../problems.js'
import { type AuthenticationRequest, type Authenticator, type AuthenticatorOptions, bearerRefusal } from './authenticator.js'
import type { Identity } from './identity.js'
import { Jwks, KeySetError } from './jwks.js'
import { headerError } from './key-file.js'
import { parseGrant, Rights } from './rights.js'
import { grantsOf, noRightsHint } from './token-rights.js'

/** Asymmetric algorithms only: with a shared secret, everyone who can verify a token could also sign one. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
const MAX_REMEMBERED_TOKENS = 10_000

/** The latest time a Date can hold, in milliseconds since 1970. */
const END_OF_TIME_MS = 8.64e15

const TOKEN_FORMAT = /^[\w-]+\.[\w-]+\.[\w-]*$/

type Verified = JWTVerifyResult & { key: webcrypto.CryptoKey }

/** Why a token is refused, as its owner is told. */
class TokenRefused extends Error {}

/**
 * The verifier of tokens, if AUTH names them.
 * @throws ConfigError with every mistake in JWT_HEADERS, JWT_SCOPE_ALIASES and JWT_JWKS_FILE
 */
export function createJwtVerifier({ config, log }: AuthenticatorOptions): JwtVerifier | undefined {
  if (!config.AUTH.includes('jwt')) return undefined
  const mistakes = config.JWT_HEADERS.flatMap(({ header }) => {
    const mistake = headerError(header, '')
    return mistake ? [`JWT_HEADERS ${mistake}: ${header}`] : []
  })
  for (const right of [...config.JWT_SCOPE_ALIASES.values()].flat()) {
    try {
      parseGrant(right)
    } catch (error) {
      mistakes.push(`JWT_SCOPE_ALIASES contains ${right}, which ${(error as Error).message}`)
    }
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  try {
    return new JwtVerifier(config, log)
  } catch (error) {
    if (!(error instanceof KeySetError)) throw error
    throw new ConfigError([`JWT_JWKS_FILE ${config.JWT_JWKS_FILE}: ${error.message}`])
  }
}

/** Authenticates clients by JSON Web Tokens, signed with a key of the key set. */
export class JwtVerifier implements Authenticator {
  readonly credential = 'token'
  readonly #config: Config
  readonly #keys: Jwks
  readonly #options: JWTVerifyOptions
  /** Verified tokens, by their digests. */
  readonly #verified = new LruMap<Identity>(MAX_REMEMBERED_TOKENS)

  /** @throws KeySetError with the mistake in the file of keys */
  constructor(config: Config, log: Log) {
    this.#config = config
    this.#keys = new Jwks(config, log)
    this.#options = {
      algorithms: ALGORITHMS,
      requiredClaims: ['exp'],
      clockTolerance: config.JWT_LEEWAY / 1000,
      ...(config.JWT_ISSUER && { issuer: config.JWT_ISSUER }),
      ...(config.JWT_AUDIENCE && { audience: config.JWT_AUDIENCE }),
    }
    warnIfLax(config, log)
  }

  /** Why no token can be verified; undefined if they can. */
  get notReady(): string | undefined {
    return this.#keys.loaded ? undefined : 'the keys that verify tokens could not be read yet'
  }

  /**
   * Looks up the owner of a token. A verified token is remembered until it expires or its key is withdrawn.
   * @returns undefined for a secret that is not three parts with dots in between; Problem `unauthorized` for a token that is
   *   refused, `authority_unavailable` if no keys could be read yet
   */
  find({ credentials }: Pick<AuthenticationRequest, 'credentials'>): Identity | undefined | Promise<Identity | Problem> {
    if (typeof credentials === 'string' || !TOKEN_FORMAT.test(credentials.secret)) return undefined
    const digest = hash('sha256', credentials.secret)
    return this.#verified.get(digest)?.current() ?? this.#check(credentials.secret, digest)
  }

  reload(): void {
    this.#keys.reload()
  }

  close(): void {
    this.#keys.close()
  }

  async #check(token: string, digest: string): Promise<Identity | Problem> {
    this.#verified.delete(digest)
    try {
      const { payload, key } = await this.#verify(token)
      const thumbprint = await calculateJwkThumbprint(await exportJWK(key))
      const identity = this.#identity(payload, thumbprint, digest)
      this.#verified.set(digest, identity)
      return identity
    } catch (error) {
      if (error instanceof Problem) return error
      return bearerRefusal(error instanceof TokenRefused ? error.message : tokenRefusalReason(error), true)
    }
  }

  /** Verifies a token, and once more with the keys of the URL as they are now, in case the issuer has new ones. */
  async #verify(token: string): Promise<Verified> {
    try {
      return await this.#verifyByKnownKeys(token)
    } catch (error) {
      // The new key may have the name of an old one, or none.
      const mayHaveNewKey = error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
      if (!mayHaveNewKey || !(await this.#keys.refresh())) throw error
      return this.#verifyByKnownKeys(token)
    }
  }

  async #verifyByKnownKeys(token: string): Promise<Verified> {
    try {
      return (await jwtVerify(token, this.#keys.resolve, this.#options)) as Verified
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
      // The token does not name its key: any of the matching keys may have signed it.
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
    const expiresAt = Math.min(payload.exp! * 1000 + this.#config.JWT_LEEWAY, END_OF_TIME_MS)
    const grants = grantsOf(payload, this.#config)
    const identity: Identity = {
      name: `token ${clientNameOf(payload) ?? digest.slice(0, 16)}`,
      rights: new Rights(grants),
      ...(grants.length === 0 && { withoutRights: noRightsHint(this.#config) }),
      headers: this.#headers(payload),
      setsUserId: false,
      current: () => (expiresAt > wallTime() && this.#keys.has(thumbprint) ? identity : undefined),
    }
    return identity
  }

  #headers(payload: JWTPayload): Record<string, string> | undefined {
    const { JWT_HEADERS } = this.#config
    if (JWT_HEADERS.length === 0) return undefined
    return Object.fromEntries(
      JWT_HEADERS.map(({ header, claim }) => {
        const value = payload[claim]
        const text = typeof value === 'number' ? String(value) : value
        // Without the claim, messages would go out without the header, or with a value of the client's choice.
        if (headerError(header, text) !== undefined) throw new TokenRefused(`The token has no usable claim ${claim}.`)
        return [header, text as string]
      }),
    )
  }
}

/** Printable characters only, and short enough for a log line. */
function clientNameOf({ sub, client_id: clientId, azp }: JWTPayload): string | undefined {
  const owner = [sub, clientId, azp].find((one) => typeof one === 'string' && one !== '') as string | undefined
  return owner?.replace(/[^\x20-\x7e]/g, '?').slice(0, 128)
}

/** Which of jose's checks failed. Shows nothing of the token but the name of a claim. */
function tokenRefusalReason(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'The token has expired.'
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf') return 'The token is not valid yet.'
    return error.reason === 'missing'
      ? `The token has no claim ${error.claim}.`
      : `The token's claim ${error.claim} has an unexpected value.`
  }
  return 'The token is invalid.'
}

/** Logs settings that accept more tokens than intended. */
function warnIfLax(config: Config, log: Log): void {
  if (!config.JWT_AUDIENCE) log.warn({}, 'JWT_AUDIENCE is not set: tokens issued for other services are accepted too')
  if (!config.JWT_ISSUER) log.warn({}, 'JWT_ISSUER is not set: every owner of a key in the key set may issue tokens')
  if (config.JWT_JWKS_URL.startsWith('http://'))
    log.warn({}, 'JWT_JWKS_URL is not https: anyone on the network path can replace the keys')
}
