// What proxies say about the request that they pass on: the client's address, the host and scheme that the client used, and the
// path under which it sees the gateway. Only proxies in TRUST_PROXY are believed.
//
// Proxies write it in several forms: with ports, with brackets, as `X-Forwarded-For` and as `Forwarded` (RFC 7239). They are all
// brought into the one that the framework reads.

import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { range } from '../config/parsers.js'
import { isIn, type Network, parseAddress, parseNetwork } from '../lib/networks.js'
import type { Services } from '../services.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The path before the gateway's own paths, as clients see it: `/mq`, or empty. Links in responses begin with it. */
    publicPrefix: string
    /** Whether a proxy says that there is a client behind it, and not which. The address is then that of a proxy. */
    hidesClient: boolean
  }
}

/** The words of TRUST_PROXY. */
const NETWORKS: Record<string, string[]> = {
  loopback: ['127.0.0.0/8', '::1/128'],
  linklocal: ['169.254.0.0/16', 'fe80::/10'],
  uniquelocal: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
}

const MAX_PREFIX_CHARS = 255
/** Segments of letters that need no encoding: nothing that leads to another host or out of an attribute. */
const PREFIX_FORMAT = /^(?:\/[\w.~-]+)*\/?$/

/** Whether a proxy is trusted: by its address. @param proxies as in TRUST_PROXY */
export function proxyTrust(proxies: readonly string[]): (address: string) => boolean {
  const networks = proxies.flatMap((proxy) => NETWORKS[proxy] ?? [proxy]).map((text): Network => parseNetwork(range(text)))
  return (text) => {
    const address = parseAddress(text)
    return address !== undefined && networks.some((network) => isIn(address, network))
  }
}

/** Reads what proxies say, before anything else looks at the request. */
export const forwarded = fp(async (app: FastifyInstance, { config }: Services) => {
  app.decorateRequest('publicPrefix', config.PUBLIC_URL?.path ?? '')
  app.decorateRequest('hidesClient', false)
  if (config.TRUST_PROXY.length === 0) return
  const isTrusted = proxyTrust(config.TRUST_PROXY)
  app.addHook('onRequest', (request, _reply, done) => {
    const { headers, socket } = request.raw
    request.hidesClient = !translate(headers)
    const prefix = headers['x-forwarded-prefix']
    if (typeof prefix === 'string' && config.PUBLIC_URL === undefined && isTrusted(socket.remoteAddress ?? ''))
      request.publicPrefix = readPrefix(prefix)
    done()
  })
})

/**
 * Brings the headers into the form that the framework reads. If both forms are there, `X-Forwarded-For` counts: most proxies add
 * to that one only, and would pass on a `Forwarded` that the client made up.
 * @returns false if they name a client and not its address
 */
function translate(headers: IncomingHttpHeaders): boolean {
  const given = headers['x-forwarded-for']
  let list: (string | undefined)[] = []
  if (given !== undefined) list = String(given).split(',').map(addressOf)
  else if (headers.forwarded !== undefined) {
    const elements = readForwarded(headers.forwarded)
    list = elements.map((element) => addressOf(element.get('for') ?? ''))
    const { proto, host } = Object.fromEntries(elements.at(-1) ?? [])
    if (proto !== undefined) headers['x-forwarded-proto'] ??= proto
    if (host !== undefined) headers['x-forwarded-host'] ??= host
  } else return true
  // Of what is no address nobody knows who wrote it: the nearest proxy before it counts as the client.
  const known = list.slice(list.lastIndexOf(undefined) + 1)
  if (known.length > 0) headers['x-forwarded-for'] = known.join(', ')
  else delete headers['x-forwarded-for']
  return known.length > 0
}

/** The address of an entry, which may have a port, and brackets around an IPv6 address. */
function addressOf(entry: string): string | undefined {
  const text = entry.trim()
  if (text.includes('%')) return undefined // a zone, which means something to one machine only
  const [, bracketed] = /^\[([^\]]*)\](?::[\w.-]+)?$/.exec(text) ?? []
  const [, withPort] = /^([\d.]+):[\w.-]+$/.exec(text) ?? []
  return parseAddress(bracketed ?? withPort ?? text)?.toString()
}

/** The elements of a `Forwarded` header, from the client's proxy to the nearest one. One that is malformed is empty. */
function readForwarded(header: string): Map<string, string>[] {
  const elements = header.match(/(?:"(?:[^"\\]|\\.)*"|[^",])+/g) ?? []
  return elements.map((element) => {
    const pairs = element.match(/(?:"(?:[^"\\]|\\.)*"|[^";])+/g) ?? []
    return new Map(
      pairs.flatMap((pair): [string, string][] => {
        const [, name, quoted, plain] = /^\s*([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))\s*$/.exec(pair) ?? []
        return name === undefined ? [] : [[name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '']]
      }),
    )
  })
}

/** The prefix that proxies have taken off the path, the outermost first; none if it is not a plain path. */
function readPrefix(header: string): string {
  const parts = header.split(',').map((part) => part.trim())
  if (header.length > MAX_PREFIX_CHARS || !parts.every((part) => PREFIX_FORMAT.test(part))) return ''
  return parts.map((part) => part.replace(/\/$/, '')).join('')
}
