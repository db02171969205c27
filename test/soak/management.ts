// An administrator's calls to the management API of the broker.

import type { Broker } from '../../scripts/broker.mjs'

/** The vhost of the soak test. */
export const VHOST = 'soak'

/** Calls a path below /api/. @throws Error if the status is not a success */
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

/** Adds a user with all permissions in the vhost of the soak test. The password is the name. */
export async function addUser(broker: Broker, name: string): Promise<void> {
  await manage(broker, 'PUT', `users/${name}`, { password: name, tags: '' })
  await manage(broker, 'PUT', `permissions/${VHOST}/${name}`, { configure: '.*', write: '.*', read: '.*' })
}

/** Deletes a user. RabbitMQ closes their connections. */
export const deleteUser = (broker: Broker, name: string): Promise<void> => manage(broker, 'DELETE', `users/${name}`)
