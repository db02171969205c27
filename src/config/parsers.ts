// What a setting's text means. Each parser throws an Error whose message completes "SETTING …".

import { isIP } from 'node:net'
import { parseDuration, parseSize } from '../lib/units.js'

export const duration = (min: string, max: string) => (plainText: string) => {
  const value = parseDuration(plainText)
  if (value === undefined) throw new Error('is not a duration like 500ms, 30s, 5m or 1h')
  if (value < parseDuration(min)! || value > parseDuration(max)!) throw new Error(`must be between ${min} and ${max}`)
  return value
}

export const integerBetween = (min: number, max: number) => (text: string) => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max)) throw new Error(`must be a whole number between ${min} and ${max}`)
  return value
}

export const size = (min: number, max: number) => (text: string) => {
  const value = parseSize(text)
  if (value === undefined) throw new Error('is not a size like 512KiB or 16MiB')
  if (value < min || value > max) throw new Error(`must be between ${min} and ${max} bytes`)
  return value
}

export const oneOf =
  <const T extends string>(...choices: T[]) =>
  (text: string): T => {
    if (!choices.includes(text as T)) throw new Error(`must be one of ${choices.join(', ')}`)
    return text as T
  }

/** One broker address with its credentials, taken apart so that no URL with a password travels through the program. */
export interface BrokerAddress {
  protocol: 'amqp' | 'amqps'
  hostname: string
  port: number
  username: string
  password: string
  vhost: string
}

export function brokerAddresses(text: string): BrokerAddress[] {
  const addresses = text
    .split(/[\s,]+/)
    .filter(Boolean)
    .map(brokerAddress)
  if (addresses.length === 0) throw new Error('is empty')
  const [first] = addresses
  if (addresses.some((other) => other.vhost !== first!.vhost || other.username !== first!.username)) {
    throw new Error('names several brokers: they must have the same user and vhost')
  }
  return addresses
}

function brokerAddress(text: string): BrokerAddress {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new Error('is not a URL like amqp://user:password@host:5672/vhost')
  }
  const protocol = url.protocol.slice(0, -1)
  if ((protocol !== 'amqp' && protocol !== 'amqps') || !url.hostname)
    throw new Error('must begin with amqp:// or amqps:// and a host')
  try {
    return {
      protocol,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port ? Number(url.port) : protocol === 'amqp' ? 5672 : 5671,
      username: url.username ? decodeURIComponent(url.username) : 'guest',
      password: url.username ? decodeURIComponent(url.password) : 'guest',
      vhost: decodeURIComponent(url.pathname.slice(1)) || '/',
    }
  } catch {
    throw new Error('has a broken percent-encoding')
  }
}

export const host = (text: string) => {
  if (!isIP(text) && !/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text))
    throw new Error('is not a host name or an IP address')
  return text
}

/** Comma-separated. */
export const list =
  <T>(item: (text: string) => T) =>
  (text: string): readonly T[] =>
    text
      .split(',')
      .map((one) => one.trim())
      .filter(Boolean)
      .map(item)

/** Where a setting may be left out. */
export const optional =
  <T>(parse: (text: string) => T) =>
  (text: string): T | undefined =>
    text === '' ? undefined : parse(text)

export const text = (value: string) => value
export const MiB = 1024 ** 2

export type AuthMode = 'none' | 'keys' | 'jwt' | 'broker'

/** Who may come in; empty where it was not written out, which is none. */
export function authModes(text: string): readonly AuthMode[] {
  if (text === '') return []
  const modes = text.split(',').map((mode) => oneOf('none', 'keys', 'jwt', 'broker')(mode.trim()))
  for (const alone of ['none', 'broker'] as const)
    if (modes.length > 1 && modes.includes(alone)) throw new Error(`is ${alone} and something else`)
  return modes
}

/** Where it is not empty, an address to fetch something from. */
export function httpUrl(text: string): string {
  if (text !== '' && !(URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)))
    throw new Error('is not a URL like https://issuer.example/jwks.json')
  return text
}

/** Where another instance reaches this one: a scheme, a host and a port, and nothing behind them. */
export function instanceUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.href !== `${url.origin}/`)
    throw new Error('is not a URL like http://10.0.0.5:8080, with nothing behind the port')
  if (['0.0.0.0', '[::]'].includes(url.hostname)) throw new Error('has to name an address that others can connect to')
  if (url.origin.length > 255) throw new Error('must have 255 characters at most')
  return url.origin
}

/** A header, and the claim of a token that it is made of: `x-tenant=tenant`. */
export function claimHeader(text: string): { header: string; claim: string } {
  const [header, claim, more] = text.split('=').map((part) => part.trim())
  if (!header || !claim || more !== undefined) throw new Error(`has ${text} in it, which is not like x-tenant=tenant`)
  return { header, claim }
}

/** `*`, or an origin as browsers write it: scheme, host, and the port where it is not the scheme's own. */
export function origin(text: string): string {
  if (text === '*') return text
  if (!URL.canParse(text) || new URL(text).origin !== text || text.includes('*'))
    throw new Error(`has ${text} in it, which is not an origin like https://app.example`)
  return text
}

const PROXY_WORDS = ['loopback', 'linklocal', 'uniquelocal']

/** An address or a range of addresses. */
export function range(text: string): { address: string; bits: number } {
  const [address, bits, more] = text.split('/') as [string, string?, string?]
  const length = isIP(address) === 6 ? 128 : 32
  const isRange = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= length)
  if (isIP(address) === 0 || !isRange || more !== undefined)
    throw new Error(`has ${text} in it, which is no address and no range like 10.0.0.0/8`)
  return { address, bits: bits === undefined ? length : Number(bits) }
}

/** An address, a range of addresses, or a word for the ranges of private networks: a proxy whose X-Forwarded headers count. */
export function proxy(text: string): string {
  if (!PROXY_WORDS.includes(text)) range(text)
  return text
}

/** So many requests in so many milliseconds, from `100/s`, `6000/m`, `50/10s`. */
export function requestRate(text: string): { requests: number; window: number } {
  const match = /^(\d{1,9})\/(\d*(?:ms|s|m|h))$/.exec(text)
  const window = match ? parseDuration(/^\d/.test(match[2]!) ? match[2]! : `1${match[2]}`) : undefined
  const requests = Number(match?.[1])
  if (!(requests > 0) || window === undefined || window < 1000) throw new Error('is not a rate like 100/s, 6000/m or 50/10s')
  return { requests, window }
}

export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '::1' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
