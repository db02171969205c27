// What a setting's text means. Each parser throws an Error whose message completes "SETTING …".

import { isIP } from 'node:net'
import { parseDuration, parseSize } from '../units.js'

export const duration = (min: string, max: string) => (text: string) => {
  const value = parseDuration(text)
  if (value === undefined) throw new Error('is not a duration like 500ms, 30s, 5m or 1h')
  if (value < parseDuration(min)! || value > parseDuration(max)!) throw new Error(`must be between ${min} and ${max}`)
  return value
}

export const integer = (min: number, max: number) => (text: string) => {
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

export const text = (value: string) => value
export const MiB = 1024 ** 2

export type AuthMode = 'none' | 'keys'

/** Who may come in; empty where it was not written out, which is none. */
export function authModes(text: string): readonly AuthMode[] {
  if (text === '') return []
  const modes = text.split(',').map((mode) => oneOf('none', 'keys')(mode.trim()))
  if (modes.length > 1 && modes.includes('none')) throw new Error('is none and something else')
  return modes
}
