// Parsers of settings. Each throws an Error whose message completes "SETTING …".

import { isIP } from 'node:net'
import { parseDuration, parseSize } from '../lib/units.js'

/** A duration within bounds, in milliseconds. @throws Error that completes "the setting …" */
export const duration = (min: string, max: string) => (text: string) => {
  const value = parseDuration(text)
  if (value === undefined) throw new Error('is not a duration like 500ms, 30s, 5m or 1h')
  if (value < parseDuration(min)! || value > parseDuration(max)!) throw new Error(`must be between ${min} and ${max}`)
  return value
}

/** A whole number within bounds. @throws Error that completes "the setting …" */
export const integerBetween = (min: number, max: number) => (text: string) => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max)) throw new Error(`must be a whole number between ${min} and ${max}`)
  return value
}

/** A size within bounds, in bytes. @throws Error that completes "the setting …" */
export const size = (min: number, max: number) => (text: string) => {
  const value = parseSize(text)
  if (value === undefined) throw new Error('is not a size like 512KiB or 16MiB')
  if (value < min || value > max) throw new Error(`must be between ${min} and ${max} bytes`)
  return value
}

/** One of several words. @throws Error that completes "the setting …" */
export const oneOf =
  <const T extends string>(...choices: T[]) =>
  (text: string): T => {
    if (!choices.includes(text as T)) throw new Error(`must be one of ${choices.join(', ')}`)
    return text as T
  }

/** A broker address with its credentials. Parsed at once, so that no URL with a password is passed around and logged. */
export interface BrokerAddress {
  protocol: 'amqp' | 'amqps'
  hostname: string
  port: number
  username: string
  password: string
  vhost: string
  /** Milliseconds, in the place of AMQP_HEARTBEAT. */
  heartbeat?: number
  /** Milliseconds, in the place of CONNECT_TIMEOUT. */
  connectTimeout?: number
  /** The most channels to agree on with RabbitMQ. */
  channelMax?: number
  /** The largest frame to agree on with RabbitMQ, in bytes. */
  frameMax?: number
}

/** What the query of AMQP_URL may have, in RabbitMQ's words: https://www.rabbitmq.com/docs/uri-query-parameters */
const BROKER_PARAMETERS: Record<string, (text: string) => Partial<BrokerAddress>> = {
  heartbeat: (text) => ({ heartbeat: 1000 * integerBetween(1, 600)(text) }),
  connection_timeout: (text) => ({ connectTimeout: integerBetween(100, 60_000)(text) }),
  channel_max: (text) => ({ channelMax: integerBetween(16, 65_535)(text) }),
  frame_max: (text) => ({ frameMax: integerBetween(4096, 16 * MiB)(text) }),
}

/** The nodes of AMQP_URL, separated by commas. @throws Error that completes "the setting …" */
export function brokerAddresses(text: string): BrokerAddress[] {
  const addresses = text
    .split(/[\s,]+/)
    .filter(Boolean)
    .map(brokerAddress)
  if (addresses.length === 0) throw new Error('names no broker')
  const [first] = addresses
  if (addresses.some((other) => other.vhost !== first!.vhost || other.username !== first!.username)) {
    throw new Error('names several brokers, which must all have the same user and vhost')
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
  // In a URL these characters end the password, unless they are encoded: it may be one of its parts that stands here.
  if (url.hash || /[@/]/.test(url.pathname.slice(1)))
    throw new Error('has a / or # in its password or vhost: write %2F for a slash and %23 for a #')
  const parameters = brokerParameters(url)
  try {
    return {
      protocol,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port ? Number(url.port) : protocol === 'amqp' ? 5672 : 5671,
      username: url.username ? decodeURIComponent(url.username) : 'guest',
      password: url.username ? decodeURIComponent(url.password) : 'guest',
      vhost: decodeURIComponent(url.pathname.slice(1)) || '/',
      ...parameters,
    }
  } catch {
    throw new Error('has an invalid percent-encoding')
  }
}

/** Never shows what it does not know: a password with a ? in it looks like a query. */
function brokerParameters({ searchParams }: URL): Partial<BrokerAddress> {
  let found: Partial<BrokerAddress> = {}
  for (const [name, value] of searchParams) {
    if (!Object.hasOwn(BROKER_PARAMETERS, name)) {
      const known = Object.keys(BROKER_PARAMETERS).join(', ')
      throw new Error(`has a query with something else than ${known}; write %3F for a ? in the password`)
    }
    try {
      found = { ...found, ...BROKER_PARAMETERS[name]!(value) }
    } catch (error) {
      throw new Error(`has a query whose ${name} ${(error as Error).message}`)
    }
  }
  return found
}

/** An address or a host name to listen on. @throws Error that completes "the setting …" */
export const host = (text: string) => {
  if (!isIP(text) && !/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text))
    throw new Error('is not a host name or an IP address')
  return text
}

/** A comma-separated list. Empty items are skipped. */
export const list =
  <T>(item: (text: string) => T) =>
  (text: string): readonly T[] =>
    text
      .split(',')
      .map((one) => one.trim())
      .filter(Boolean)
      .map(item)

/** A comma-separated list, which `none` empties where the default is not empty. */
export const listOrNone =
  <T>(item: (text: string) => T) =>
  (text: string): readonly T[] =>
    text === 'none' ? [] : list(item)(text)

/** A setting that may be left out. */
export const optional =
  <T>(parse: (text: string) => T) =>
  (text: string): T | undefined =>
    text === '' ? undefined : parse(text)

/** Any text. */
export const text = (value: string) => value
export const MiB = 1024 ** 2

const MIN_SECRET_BYTES = 16

/** A secret that nobody guesses, or nothing. @throws Error that completes "the setting …" */
export function secret(text: string): string {
  if (text !== '' && Buffer.byteLength(text) < MIN_SECRET_BYTES)
    throw new Error(`must have at least ${MIN_SECRET_BYTES} bytes: make one with openssl rand -base64 32`)
  return text
}

export type AuthMode = 'none' | 'keys' | 'jwt' | 'broker'

/** How clients authenticate; empty if not set, which means the same as none but is refused unless HOST is loopback. */
export function authModes(text: string): readonly AuthMode[] {
  if (text === '') return []
  const modes = text.split(',').map((mode) => oneOf('none', 'keys', 'jwt', 'broker')(mode.trim()))
  for (const alone of ['none', 'broker'] as const)
    if (modes.length > 1 && modes.includes(alone)) throw new Error(`is ${alone} together with something else`)
  return modes
}

/** An http or https URL without credentials, or nothing. */
export function httpUrl(text: string): string {
  if (text === '') return ''
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) throw new Error('is not a URL like https://issuer.example/jwks.json')
  if (url.username || url.password) throw new Error('has a user name or password in it, which is not supported')
  return text
}

/** The URL at which other instances reach this one: a scheme, a host and a port, without a path. */
export function instanceUrl(text: string): string {
  const bracketed = withBrackets(text)
  const url = URL.canParse(bracketed) ? new URL(bracketed) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.href !== `${url.origin}/`)
    throw new Error('is not a URL like http://10.0.0.5:8080, without a path')
  if (['0.0.0.0', '[::]'].includes(url.hostname)) throw new Error('must name an address that other instances can connect to')
  if (url.origin.length > 255) throw new Error('must have at most 255 characters')
  return url.origin
}

/** Where clients see the gateway. */
export interface PublicUrl {
  /** Scheme, host and port; empty if only a path is known. */
  origin: string
  /** A path without a slash at its end, or nothing. */
  path: string
}

/** An http or https URL, or a path alone, that other paths are appended to. @throws Error that completes "the setting …" */
export function publicUrl(text: string): PublicUrl {
  const isPath = text.startsWith('/') && !text.startsWith('//')
  const url = URL.canParse(text, isPath ? 'http://localhost' : undefined)
    ? new URL(text, isPath ? 'http://localhost' : undefined)
    : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash)
    throw new Error('is not a URL like https://example.com/mq, or a path like /mq')
  return { origin: isPath ? '' : url.origin, path: url.pathname.replace(/\/+$/, '') }
}

/** Kubernetes writes a pod's IPv6 address into `http://$(POD_IP):8080` without the brackets that a URL needs. */
function withBrackets(text: string): string {
  const match = /^(https?:\/\/)([\da-f:.]+):(\d{1,5})$/i.exec(text)
  return match && isIP(match[2]!) === 6 ? `${match[1]}[${match[2]}]:${match[3]}` : text
}

/** Rights by the name that stands for them: `worker=read:%2F/jobs write:%2F/results; admin=configure:%2F/jobs`. */
export function scopeAliases(text: string): ReadonlyMap<string, readonly string[]> {
  const aliases = new Map<string, readonly string[]>()
  for (const entry of text
    .split(';')
    .map((one) => one.trim())
    .filter(Boolean)) {
    const [alias = '', rights = ''] = splitOnce(entry, '=')
    const list = rights.split(/\s+/).filter(Boolean)
    if (alias === '' || list.length === 0) throw new Error(`contains ${entry}, which is not like worker=read:%2F/jobs`)
    if (aliases.has(alias)) throw new Error(`has ${alias} twice`)
    aliases.set(alias, list)
  }
  return aliases
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator)
  return at === -1 ? [text] : [text.slice(0, at).trim(), text.slice(at + 1).trim()]
}

/** A message header and the claim of the token that gives its value: `x-tenant=tenant`. */
export function claimHeader(text: string): { header: string; claim: string } {
  const [header, claim, more] = text.split('=').map((part) => part.trim())
  if (!header || !claim || more !== undefined) throw new Error(`contains ${text}, which is not like x-tenant=tenant`)
  return { header, claim }
}

/** `*`, or an origin as browsers write it: scheme, host, and the port unless it is the scheme's default. */
export function origin(text: string): string {
  if (text === '*') return text
  if (!URL.canParse(text) || new URL(text).origin !== text || text.includes('*'))
    throw new Error(`contains ${text}, which is not an origin like https://app.example`)
  return text
}

const PROXY_WORDS = ['loopback', 'linklocal', 'uniquelocal']

/** An IP address, or a range of them. */
export function range(text: string): { address: string; bits: number } {
  const [address, bits, more] = text.split('/') as [string, string?, string?]
  const length = isIP(address) === 6 ? 128 : 32
  const isRange = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= length)
  if (isIP(address) === 0 || !isRange || more !== undefined)
    throw new Error(`contains ${text}, which is neither an IP address nor a range like 10.0.0.0/8`)
  return { address, bits: bits === undefined ? length : Number(bits) }
}

/** A proxy whose headers are trusted: an address, a range, or a word for the ranges of private networks. */
export function proxy(text: string): string {
  if (!PROXY_WORDS.includes(text) && range(text).bits === 0)
    throw new Error(`contains ${text}, which would let every client name any address as its own: name the proxies`)
  return text
}

/** `100/s`, `6000/m` or `50/10s` as a number of requests and a window in milliseconds. */
export function requestRate(text: string): { requests: number; window: number } {
  const match = /^(\d{1,9})\/(\d*(?:ms|s|m|h))$/.exec(text)
  const window = match ? parseDuration(/^\d/.test(match[2]!) ? match[2]! : `1${match[2]}`) : undefined
  const requests = Number(match?.[1])
  if (!(requests > 0) || window === undefined || window < 1000) throw new Error('is not a rate like 100/s, 6000/m or 50/10s')
  return { requests, window }
}

/** Whether the name or address is this machine's loopback interface. */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '::1' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
