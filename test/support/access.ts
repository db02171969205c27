// A gateway that asks who calls, and clients with keys of their own for it.

import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import type supertest from 'supertest'
import { type Gateway, startGateway } from './gateway.js'

export interface KeyEntry {
  name: string
  sha256: string
  rights: string[]
  expires_at?: string
  headers?: Record<string, string>
  user_id?: boolean
}

/** A file in a folder of its own, taken away after the tests. */
export function freshFile(name: string, content: string | Buffer): string {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-access-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

/** Replaces a file in one step, as those do who change it while it is read. */
export function replaceFile(path: string, content: string): void {
  writeFileSync(`${path}.new`, content)
  renameSync(`${path}.new`, path)
}

/** A file of keys that grows. */
export class KeyFile {
  readonly path = freshFile('keys.json', '{"keys": []}')
  readonly entries: KeyEntry[] = []

  /** A new key with these rights, in the file from now on. */
  add(rights: string[], more: Partial<KeyEntry> = {}): string {
    const key = randomBytes(24).toString('base64url')
    const sha256 = createHash('sha256').update(key).digest('hex')
    this.entries.push({ name: `key-${this.entries.length}`, sha256, rights, ...more })
    this.write()
    return key
  }

  write(): void {
    replaceFile(this.path, JSON.stringify({ keys: this.entries }))
  }
}

export type Client = Pick<Gateway, 'get' | 'post' | 'put' | 'delete' | 'call'>

/** The same client, with this Authorization on every request. */
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

/** A gateway with API keys. `client` makes one with a key of its own for these rights, known from then on. */
export async function startWithKeys(env: Record<string, string> = {}, file = new KeyFile()) {
  const gateway = await startGateway({ AUTH: 'keys', API_KEYS_FILE: file.path, ...env })
  const client = (...rights: string[]): Client => clientOf(file.add(rights))
  const clientOf = (key: string): Client => {
    gateway.app.services.authentication.reload()
    return withAuthorization(gateway, `Bearer ${key}`)
  }
  return { gateway, file, client, clientOf, admin: client('configure:*/*', 'write:*/*', 'read:*/*') }
}
