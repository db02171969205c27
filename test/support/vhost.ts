// A vhost with nothing in it, for tests that look at all there is.

import { AMQP_URL, freshName, type Gateway } from './gateway.js'
import { management } from './management.js'

export interface FreshVhost {
  name: string
  env: { AMQP_URL: string }
}

export async function freshVhost(what: string): Promise<FreshVhost> {
  const name = freshName(what)
  await management(`vhosts/${name}`, { method: 'PUT' })
  await management(`permissions/${name}/guest`, {
    method: 'PUT',
    body: JSON.stringify({ configure: '.*', write: '.*', read: '.*' }),
  })
  return { name, env: { AMQP_URL: new URL(`/${name}`, AMQP_URL).href } }
}

/** Deletes it when the gateway is closed. */
export function deleteWith(gateway: Gateway, { name }: FreshVhost): void {
  gateway.cleanups.push(() => management(`vhosts/${name}`, { method: 'DELETE' }))
}
