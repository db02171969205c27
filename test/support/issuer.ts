// One who issues tokens: keys, the set of their public halves as a file or at a URL, and tokens of every kind.

import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { freshFile, replaceFile } from './access.js'

export const ISSUER = 'https://issuer.example'
export const AUDIENCE = 'rabbitmq'

export interface SigningKey {
  kid: string
  alg: string
  privateKey: Awaited<ReturnType<typeof generateKeyPair>>['privateKey']
  publicJwk: JWK
}

export async function newKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

export const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds

/** A token as it should be, but for what is said of it. */
export function token(key: SigningKey, scope: string | string[], claims: JWTPayload = {}): Promise<string> {
  const payload = { iss: ISSUER, aud: AUDIENCE, sub: 'worker-1', exp: inSeconds(300), scope, ...claims }
  return new SignJWT(JSON.parse(JSON.stringify(payload))).setProtectedHeader({ alg: key.alg, kid: key.kid }).sign(key.privateKey)
}

export const keySet = (...keys: SigningKey[]): string => JSON.stringify({ keys: keys.map(({ publicJwk }) => publicJwk) })

/** The set as a file, to be replaced. */
export function keySetFile(...keys: SigningKey[]) {
  const path = freshFile('jwks.json', keySet(...keys))
  return { path, replace: (...others: SigningKey[]) => replaceFile(path, keySet(...others)) }
}

/** The set at a URL. It can be away for a while. */
export class KeySetServer {
  keys: SigningKey[]
  asked = 0
  #server: Server
  #port = 0

  private constructor(keys: SigningKey[]) {
    this.keys = keys
    this.#server = this.#create()
  }

  static async start(...keys: SigningKey[]): Promise<KeySetServer> {
    const server = new KeySetServer(keys)
    await server.comeBack()
    after(() => server.goAway())
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/jwks.json`
  }

  async goAway(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

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
