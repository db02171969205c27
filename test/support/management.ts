// RabbitMQ's management API, to check the state of the broker without the gateway.

import { required } from './gateway.js'

/** Calls a path below /api/, with GET unless `init` has a method. @returns the parsed body @throws Error without a success */
export async function management<T = unknown>(path: string, init: RequestInit = {}): Promise<T> {
  const text = await ask(path, init)
  return (text === '' ? undefined : JSON.parse(text)) as T
}

/** Posts to a path below /api/. @returns the body as text, as parsing would round its numbers */
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
