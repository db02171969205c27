// Makes an API key: the key itself, which is shown once and kept nowhere, and the entry for the key file.

import { hash, randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { now, timestamp } from '../lib/clock.js'
import { parseDuration } from '../lib/units.js'
import { KeyFileError, readKeyFile } from './key-file.js'

const USAGE = `npm run key -- --name <name> --right <right>… [--expires <when>] [--header <name>=<value>…] [--user-id]

  --name     who will have it; stands in the log where it is used
  --right    configure, write or read, as in read:%2F/orders.*: read on every name in the vhost / that begins with orders.
  --expires  a time (2030-01-31T00:00:00Z), or from now on (90d)
  --header   an AMQP header on every message published with it, as in x-tenant=acme
  --user-id  it may set the user_id of messages`

export interface NewKey {
  key: string
  entry: Record<string, unknown>
}

/**
 * @param args as they follow the command
 * @throws KeyFileError, TypeError (from parseArgs) that say what is wrong with them
 */
export function createKey(args: string[]): NewKey {
  const { values } = parseArgs({
    args,
    options: {
      name: { type: 'string' },
      right: { type: 'string', multiple: true },
      expires: { type: 'string' },
      header: { type: 'string', multiple: true },
      'user-id': { type: 'boolean' },
    },
  })
  const { name, right = [], expires, header = [], 'user-id': userId } = values
  const missing = [...(name === undefined ? ['--name is missing'] : []), ...(right.length === 0 ? ['--right is missing'] : [])]
  if (missing.length > 0) throw new KeyFileError(missing)
  // 256 random bits; the beginning tells people, and programs that look for leaked keys, what it is.
  const key = `rhg_${randomBytes(32).toString('base64url')}`
  const duration = expires === undefined ? undefined : parseDuration(expires)
  const headers = Object.fromEntries(header.map((one) => [one.split('=', 1)[0]!, one.slice(one.indexOf('=') + 1)]))
  const entry = {
    name,
    sha256: hash('sha256', key),
    rights: right,
    ...(expires !== undefined && {
      expires_at: duration === undefined ? expires : timestamp(now() + duration),
    }),
    ...(header.length > 0 && { headers }),
    ...(userId && { user_id: true }),
  }
  readKeyFile(JSON.stringify({ keys: [entry] }))
  return { key, entry }
}

/**
 * The command `key`: prints a new key and its entry for the key file, or what is wrong with the arguments and how to use it.
 * @returns whether a key was made
 */
export function printKey(args: string[]): boolean {
  try {
    const { key, entry } = createKey(args)
    console.log(`The key. It is shown only once, and stored nowhere:\n\n${key}\n`)
    console.log(`Its entry, for the "keys" of the file that API_KEYS_FILE names:\n\n${JSON.stringify(entry, null, 2)}`)
    return true
  } catch (error) {
    const mistakes = error instanceof KeyFileError ? error.mistakes : [(error as Error).message]
    console.error(`${mistakes.map((mistake) => mistake.replace('keys[0].', '')).join('\n')}\n\n${USAGE}`)
    return false
  }
}
