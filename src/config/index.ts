// Reads the environment into one frozen Config, or lists everything that is wrong with it. Imports nothing that runs.

import { readFileSync } from 'node:fs'
import { nearest } from '../lib/nearest.js'
import { longestLease } from './derived.js'
import { type BrokerAddress, brokerAddresses } from './parsers.js'
import { brokenRules } from './rules.js'
import { type Config, type Setting, type SettingName, settings } from './settings.js'

export { endTimeout, isOpen, longestLease, rereadsFiles } from './derived.js'
export type { BrokerAddress } from './parsers.js'
export { secretKey } from './secret-key.js'
export type { Config } from './settings.js'
export { settings } from './settings.js'

type Environment = Readonly<Record<string, string | undefined>>

/** Everything that is wrong with the configuration, a sentence each. */
export class ConfigError extends Error {
  readonly mistakes: string[]
  constructor(mistakes: string[]) {
    super(
      `The configuration has ${mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`}:\n  ${mistakes.join('\n  ')}`,
    )
    this.mistakes = mistakes
  }
}

const table = Object.entries(settings) as [SettingName, Setting<unknown>][]

/**
 * Reads and checks the whole environment. The result is frozen.
 * @throws ConfigError with every mistake, likely misspellings of settings included
 */
export function loadConfig(env: Environment): Config {
  const mistakes: string[] = []
  const values: Record<string, unknown> = {}
  for (const [name, setting] of table) {
    try {
      const given = setting.secret ? secretText(name, setting, env) : plainText(name, setting, env)
      values[name] = setting.parse((given || setting.default).trim())
    } catch (error) {
      mistakes.push(`${name} ${(error as Error).message}`)
    }
  }
  mistakes.push(...misspellings(env))
  // If it is not set, the longest lease follows a broker with a short consumer timeout.
  if (!env['MAX_LEASE'] && values['BROKER_CONSUMER_TIMEOUT'] !== undefined)
    values['MAX_LEASE'] = Math.min((values as Config).MAX_LEASE, longestLease(values as Config))
  mistakes.push(...brokenRules(values as Partial<Config>))
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  const config = Object.freeze(values) as Config
  if (env['AMQP_URL_FILE']) brokerFiles.set(config, env['AMQP_URL_FILE'])
  return config
}

/** The settings that are set by a name they no longer have, with their current names. The gateway warns of them at start. */
export function outdatedNames(env: Environment): { name: string; formerly: string }[] {
  return table.flatMap(([name, { formerly }]) => (formerly && env[formerly] ? [{ name, formerly }] : []))
}

function plainText(name: string, { formerly }: Setting<unknown>, env: Environment): string | undefined {
  const [current, old] = [ownText(env[name]), formerly && env[formerly]]
  if (current && old && current.trim() !== old.trim())
    throw new Error(`and its former name ${formerly} are both set, to different values: keep ${name}`)
  return current || old
}

function secretText(name: string, setting: Setting<unknown>, env: Environment): string | undefined {
  const [text, file] = [env[name], env[`${name}_FILE`]]
  if (text && file) throw new Error(`and ${name}_FILE are both set: keep one`)
  if (file) return readSecret(name, file)
  // Its default would be another secret than the one that was forgotten.
  if (text?.trim() === '' && setting.default !== '') throw new Error('is set, but empty: give it a value, or remove it')
  return text
}

/** @throws Error that completes "SETTING …" */
function readSecret(name: string, file: string): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new Error(`cannot be read from ${name}_FILE: ${(error as NodeJS.ErrnoException).code}`)
  }
  if (text === '') throw new Error(`cannot be read from ${name}_FILE: the file is empty`)
  return text
}

/** The files from which AMQP_URL was read. */
const brokerFiles = new WeakMap<Config, string>()

/**
 * The nodes of RabbitMQ with the present credentials: those of AMQP_URL, or of AMQP_URL_FILE as it is now. If the file has a
 * mistake or another vhost by now, those from the start.
 */
export function currentBrokerAddresses(config: Config): readonly BrokerAddress[] {
  const file = brokerFiles.get(config)
  if (file === undefined) return config.AMQP_URL
  try {
    const addresses = brokerAddresses(readSecret('AMQP_URL', file))
    return addresses[0]?.vhost === config.AMQP_URL[0]?.vhost ? addresses : config.AMQP_URL
  } catch {
    return config.AMQP_URL
  }
}

/**
 * Kubernetes puts variables for each service of the namespace into every pod: OPERATIONS_PORT=tcp://… for one that is named
 * "operations", GATEWAY_API_SERVICE_HOST for "gateway-api".
 */
const KUBERNETES_NAME = /_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/
const KUBERNETES_VALUE = /^(?:tcp|udp|sctp):\/\//

/** The value of a setting, unless Kubernetes wrote it. */
const ownText = (value: string | undefined): string | undefined =>
  value !== undefined && KUBERNETES_VALUE.test(value) ? undefined : value

/**
 * Names that look like settings and are not: one or two letters off, or with a prefix that settings do not have. Other names with
 * the prefix are somebody else's: many things are a gateway.
 */
function misspellings(env: Environment): string[] {
  // By each accepted name, the name to suggest.
  const known = new Map<string, string>()
  for (const [name, { secret, formerly }] of table) {
    known.set(name, name)
    if (secret) known.set(`${name}_FILE`, `${name}_FILE`)
    if (formerly) known.set(formerly, name)
  }
  const mistakes: string[] = []
  for (const [name, value] of Object.entries(env)) {
    if (known.has(name) || value === undefined) continue
    if (KUBERNETES_NAME.test(name) || KUBERNETES_VALUE.test(value)) continue
    const bare = name.replace(/^(RABBITMQ_HTTP_)?GATEWAY_/, '')
    const near = nearest(bare, [...known.keys()])
    if (near !== undefined && (bare !== name || near !== bare))
      mistakes.push(`${name} is not a setting: did you mean ${known.get(near)}?`)
  }
  return mistakes
}
