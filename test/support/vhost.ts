// A vhost with nothing in it, for tests that look at all there is, or whose definitions no other instance is to carry out.

import { AMQP_URL, freshName, type Gateway } from './gateway.js'
import { management } from './management.js'

export interface FreshVhost {
  name: string
  /** Of a gateway there. */
  env: { AMQP_URL: string }
  delete: () => Promise<unknown>
}

export async function freshVhost(what = 'vhost'): Promise<FreshVhost> {
  const name = freshName(what)
  await management(`vhosts/${name}`, { method: 'PUT' })
  const all = JSON.stringify({ configure: '.*', write: '.*', read: '.*' })
  await management(`permissions/${name}/guest`, { method: 'PUT', body: all })
  const env = { AMQP_URL: new URL(`/${name}`, AMQP_URL).href }
  return { name, env, delete: () => management(`vhosts/${name}`, { method: 'DELETE' }) }
}

/** Deletes it when the gateway is closed. */
export function deleteWith(gateway: Gateway, vhost: FreshVhost): void {
  gateway.cleanups.push(vhost.delete)
}
