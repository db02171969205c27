// What an operator does to the broker of a storm, over its management API.

import type { Broker } from '../../scripts/broker.mjs'

export const VHOST = 'storm'

/** A call of a path below /api/. @throws Error where it does not succeed */
export async function manage({ managementUrl }: Broker, method: string, path: string, body?: object): Promise<void> {
  const url = new URL(managementUrl)
  const authorization = `Basic ${btoa(`${url.username}:${url.password}`)}`
  const response = await fetch(`${url.origin}/api/${path}`, {
    method,
    headers: { authorization, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  })
  await response.arrayBuffer()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`)
}

/** A user who may do everything in the storm's vhost. */
export async function addUser(broker: Broker, name: string): Promise<void> {
  await manage(broker, 'PUT', `users/${name}`, { password: name, tags: '' })
  await manage(broker, 'PUT', `permissions/${VHOST}/${name}`, { configure: '.*', write: '.*', read: '.*' })
}

export const deleteUser = (broker: Broker, name: string): Promise<void> => manage(broker, 'DELETE', `users/${name}`)
