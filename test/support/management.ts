// What the broker itself says, over its management API: the witness that is not the gateway.

import { required } from './gateway.js'

/** GET of a path below /api/. */
export async function management<T = unknown>(path: string, init: RequestInit = {}): Promise<T> {
  const base = new URL(required('RABBITMQ_MANAGEMENT_URL'))
  const authorization = `Basic ${Buffer.from(`${base.username}:${base.password}`).toString('base64')}`
  base.username = ''
  base.password = ''
  const response = await fetch(new URL(`/api/${path}`, base), {
    ...init,
    headers: { authorization, 'content-type': 'application/json' },
  })
  if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${response.status} ${await response.text()}`)
  const text = await response.text()
  return (text === '' ? undefined : JSON.parse(text)) as T
}
