// An empty vhost, for tests that list everything in it or whose definitions no other instance should carry out.

import { AMQP_URL, freshName, type Gateway } from './gateway.js'
import { management } from './management.js'

export interface FreshVhost {
  name: string
  /** The settings of a gateway in it. */
  env: { AMQP_URL: string }
  delete: () => Promise<unknown>
}

/** Creates a vhost with a new name, in which the user guest has all permissions. */
export async function freshVhost(what = 'vhost'): Promise<FreshVhost> {
  const name = freshName(what)
  await management(`vhosts/${name}`, { method: 'PUT' })
  const all = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
  await management(`permissions/${name}/guest`, { method: 'PUT', body: all })
  const env = { AMQP_URL: new URL(`/${name}`, AMQP_URL).href }
  return { name, env, delete: () => management(`vhosts/${name}`, { method: 'DELETE' }) }
}

/** Deletes the vhost when the gateway is closed. */
export function deleteWith(gateway: Gateway, vhost: FreshVhost): void {
  gateway.cleanups.push(vhost.delete)
}
