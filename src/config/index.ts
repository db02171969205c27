// Reads the environment into one frozen Config, or lists everything that is wrong with it. Imports nothing that runs.

import { readFileSync } from 'node:fs'
import { longestLease } from './derived.js'
import { brokenRules } from './rules.js'
import { type Config, type Setting, type SettingName, settings } from './settings.js'

export { isOpen, longestLease, rereadsFiles } from './derived.js'
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
      const given = setting.secret ? secretText(name, env) : plainText(name, setting, env)
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
  return Object.freeze(values) as Config
}

/** The settings that are set by a name they no longer have, with their current names. The gateway warns of them at start. */
export function outdatedNames(env: Environment): { name: string; formerly: string }[] {
  return table.flatMap(([name, { formerly }]) => (formerly && env[formerly] ? [{ name, formerly }] : []))
}

function plainText(name: string, { formerly }: Setting<unknown>, env: Environment): string | undefined {
  const [current, old] = [env[name], formerly && env[formerly]]
  if (current && old && current.trim() !== old.trim())
    throw new Error(`and its former name ${formerly} are both set, to different values: keep ${name}`)
  return current || old
}

function secretText(name: string, env: Environment): string | undefined {
  const file = env[`${name}_FILE`]
  if (!file) return env[name]
  if (env[name]) throw new Error(`and ${name}_FILE are both set: keep one`)
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new Error(`cannot be read from ${name}_FILE: ${(error as NodeJS.ErrnoException).code}`)
  }
}

/** Names that look like settings and are not: one or two letters off, or with a prefix that settings do not have. */
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
    const bare = name.replace(/^(RABBITMQ_HTTP_)?GATEWAY_/, '')
    // Kubernetes puts GATEWAY_PORT=tcp://… and GATEWAY_SERVICE_HOST into every pod beside a service named "gateway".
    const fromKubernetes = /^(SERVICE_(HOST|PORT)|PORT_\d)/.test(bare) || /^(tcp|udp):/.test(value)
    if (fromKubernetes) continue
    const near = nearest(bare, [...known.keys()])
    if (near !== undefined && (bare !== name || near !== bare))
      mistakes.push(`${name} is not a setting: did you mean ${known.get(near)}?`)
    else if (bare !== name) mistakes.push(`${name} is not a setting`)
  }
  return mistakes
}

/** The most likely name: the same one, or one that is one or two letters off. Short names only match exactly. */
function nearest(name: string, known: string[]): string | undefined {
  if (known.includes(name)) return name
  const near = known
    .map((one) => ({ one, letters: distance(one, name) }))
    .filter(({ one, letters }) => one.length > 5 && letters <= (one.length > 8 ? 2 : 1))
  return near.sort((a, b) => a.letters - b.letters)[0]?.one
}

/** Levenshtein distance of two short names; 3 if their lengths differ by more than 2. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
