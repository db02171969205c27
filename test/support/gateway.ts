// A gateway in the process of the test, with the broker of the test run, and a client that checks every response against the
// OpenAPI document.

import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import supertest from 'supertest'
import { type App, buildApp, LISTEN_BACKLOG } from '../../src/app.js'
import { loadConfig } from '../../src/config/index.js'
import { checkResponse } from './contract.js'
import { eventually } from './eventually.js'

/** The broker of the test run. */
export const AMQP_URL = required('AMQP_URL')

export interface Gateway {
  app: App
  url: string
  /** A supertest request that checks its response against the OpenAPI document. */
  get: (path: string) => supertest.Test
  post: (path: string) => supertest.Test
  put: (path: string) => supertest.Test
  delete: (path: string) => supertest.Test
  /** Runs before the gateway is closed. */
  cleanups: (() => Promise<unknown>)[]
  call: (method: 'get' | 'post' | 'put' | 'delete' | 'head' | 'patch' | 'options', path: string) => supertest.Test
  close: () => Promise<void>
}

/**
 * Starts a gateway on a free port, or on PORT if that is set, and resolves when it is ready. It is closed after the test or the
 * file in which it was started.
 * @param options.ready false to resolve as soon as it listens
 */
export async function startGateway(env: Record<string, string> = {}, { ready = true } = {}): Promise<Gateway> {
  const app = await buildApp(loadConfig({ AMQP_URL, LOG_LEVEL: 'silent', ...env }))
  await app.http.listen({ host: '127.0.0.1', port: Number(env['PORT'] ?? 0), backlog: LISTEN_BACKLOG })
  const url = `http://127.0.0.1:${(app.http.server.address() as AddressInfo).port}`
  const call: Gateway['call'] = (method, path) => supertest(url)[method](path).expect(checkResponse)
  let closing: Promise<void> | undefined
  const gateway: Gateway = {
    app,
    url,
    call,
    get: (path) => call('get', path),
    post: (path) => call('post', path),
    put: (path) => call('put', path),
    delete: (path) => call('delete', path),
    cleanups: [],
    close: () => {
      closing ??= (async () => {
        for (const cleanup of gateway.cleanups) await cleanup().catch(() => undefined)
        await app.close()
      })()
      return closing
    },
  }
  after(gateway.close)
  if (!ready) return gateway
  await eventually(() => {
    const reason = app.services.notReady()
    if (reason) throw new Error(reason)
  })
  return gateway
}

/** Resolves when a gateway knows the address that another one advertises. */
export const knows = (one: Gateway, other: Gateway): Promise<void> =>
  eventually(() => {
    const { definitions } = one.app.services
    if (!definitions.lastBroadcast('address', other.app.services.vhosts.instance)) throw new Error('has not read the address')
  })

let names = 0
const prefix = `t${process.pid}`

/** A name that is unique in the test run. */
export const freshName = (what = 'q'): string => `${prefix}.${what}.${++names}`

/** Declares a queue with a new name. It is deleted when the gateway is closed. @returns its name */
export async function freshQueue(gateway: Gateway, declaration: object = {}): Promise<string> {
  const name = freshName('queue')
  await gateway.put(`/queues/${name}`).send(declaration).expect(201)
  gateway.cleanups.push(async () => supertest(gateway.url).delete(`/queues/${name}`))
  return name
}

/** The value of an environment variable that the test run sets. @throws Error if it is not set */
export function required(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: run the tests with npm test`)
  return value
}
