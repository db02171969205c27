// A gateway with API keys, and clients that each have their own key.

import { createHash, randomBytes } from 'node:crypto'
import type supertest from 'supertest'
import { freshFile, replaceFile } from './files.js'
import { type Gateway, startGateway } from './gateway.js'

/** An entry of a key file. */
export interface KeyEntry {
  name: string
  sha256: string
  rights: string[]
  expires_at?: string
  headers?: Record<string, string>
  user_id?: boolean
}

/** A key file that tests add keys to. */
export class KeyFile {
  readonly path = freshFile('keys.json', '{"keys": []}')
  readonly entries: KeyEntry[] = []

  /** Adds a new key with these rights to the file. @returns the key */
  add(rights: string[], more: Partial<KeyEntry> = {}): string {
    const key = randomBytes(24).toString('base64url')
    const sha256 = createHash('sha256').update(key).digest('hex')
    this.entries.push({ name: `key-${this.entries.length}`, sha256, rights, ...more })
    this.write()
    return key
  }

  /** Writes the entries to the file. */
  write(): void {
    replaceFile(this.path, JSON.stringify({ keys: this.entries }))
  }
}

/** The methods of a gateway that send requests. */
export type Client = Pick<Gateway, 'get' | 'post' | 'put' | 'delete' | 'call'>

/** A client that sends this Authorization header with every request. */
export function withAuthorization(gateway: Gateway, authorization: string): Client {
  const call: Gateway['call'] = (method, path) => gateway.call(method, path).set('authorization', authorization) as supertest.Test
  return {
    call,
    get: (path) => call('get', path),
    post: (path) => call('post', path),
    put: (path) => call('put', path),
    delete: (path) => call('delete', path),
  }
}

/**
 * Starts a gateway with API keys. `client` returns a client with a new key for the given rights, `clientOf` one with an existing
 * key; `admin` has all rights.
 */
export async function startWithKeys(env: Record<string, string> = {}, file = new KeyFile()) {
  const gateway = await startGateway({ AUTH: 'keys', API_KEYS_FILE: file.path, ...env })
  const client = (...rights: string[]): Client => clientOf(file.add(rights))
  const clientOf = (key: string): Client => {
    gateway.app.services.authentication.reload()
    return withAuthorization(gateway, `Bearer ${key}`)
  }
  return { gateway, file, client, clientOf, admin: client('configure:*/*', 'write:*/*', 'read:*/*') }
}
