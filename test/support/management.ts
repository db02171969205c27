// What the broker itself says, over its management API: the witness that is not the gateway.

import { required } from './gateway.js'

/** A call of a path below /api/, GET unless `init` says otherwise. */
export async function management<T = unknown>(path: string, init: RequestInit = {}): Promise<T> {
  const text = await ask(path, init)
  return (text === '' ? undefined : JSON.parse(text)) as T
}

/** POST to a path below /api/, and the answer as it was written: JavaScript would change its numbers. */
export function managementText(path: string, body: object): Promise<string> {
  return ask(path, { method: 'POST', body: JSON.stringify(body) })
}

async function ask(path: string, init: RequestInit): Promise<string> {
  const base = new URL(required('RABBITMQ_MANAGEMENT_URL'))
  const authorization = `Basic ${Buffer.from(`${base.username}:${base.password}`).toString('base64')}`
  base.username = ''
  base.password = ''
  const response = await fetch(new URL(`/api/${path}`, base), {
    ...init,
    headers: { authorization, 'content-type': 'application/json' },
  })
  if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${response.status} ${await response.text()}`)
  return response.text()
}
