// An issuer of tokens: signing keys, their JWKS as a file or at a URL, and tokens.

import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { freshFile, replaceFile } from './files.js'

export const ISSUER = 'https://issuer.example'
export const AUDIENCE = 'rabbitmq'

export interface SigningKey {
  kid: string
  alg: string
  privateKey: Awaited<ReturnType<typeof generateKeyPair>>['privateKey']
  publicJwk: JWK
}

/** Creates a key pair to sign tokens with. */
export async function newKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

/** The NumericDate, in seconds, that many seconds from now. */
export const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds

/** A valid token, apart from the given claims. A claim of undefined is left out. */
export function token(key: SigningKey, scope: string | string[], claims: JWTPayload = {}): Promise<string> {
  const payload = { iss: ISSUER, aud: AUDIENCE, sub: 'worker-1', exp: inSeconds(300), scope, ...claims }
  return new SignJWT(JSON.parse(JSON.stringify(payload))).setProtectedHeader({ alg: key.alg, kid: key.kid }).sign(key.privateKey)
}

/** The JWKS of these keys. */
export const keySet = (...keys: SigningKey[]): string => JSON.stringify({ keys: keys.map(({ publicJwk }) => publicJwk) })

/** Writes the JWKS to a file. `replace` replaces it with that of other keys. */
export function keySetFile(...keys: SigningKey[]) {
  const path = freshFile('jwks.json', keySet(...keys))
  return { path, replace: (...others: SigningKey[]) => replaceFile(path, keySet(...others)) }
}

/** A server of the JWKS, which can be stopped and started again. */
export class KeySetServer {
  keys: SigningKey[]
  /** The number of requests so far. */
  asked = 0
  #server: Server
  #port = 0

  private constructor(keys: SigningKey[]) {
    this.keys = keys
    this.#server = this.#create()
  }

  /** Starts a server on a free port of loopback. It is closed after the tests. */
  static async start(...keys: SigningKey[]): Promise<KeySetServer> {
    const server = new KeySetServer(keys)
    await server.comeBack()
    after(() => server.goAway())
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/jwks.json`
  }

  /** Closes all connections and stops listening. */
  async goAway(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** Listens again on the same port. */
  async comeBack(): Promise<void> {
    this.#server = this.#create()
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve))
    this.#port = (this.#server.address() as AddressInfo).port
  }

  #create(): Server {
    return createServer((_request, response) => {
      this.asked++
      response.setHeader('content-type', 'application/json')
      response.end(keySet(...this.keys))
    })
  }
}
