// The environment in, one frozen Config out, or the list of everything that is wrong with it. Imports nothing that runs.

import { readFileSync } from 'node:fs'
import { brokenRules, longestLease } from './rules.js'
import { type Config, type Setting, type SettingName, settings } from './settings.js'

export type { BrokerAddress } from './parsers.js'
export { isOpen, longestLease, rereadsFiles } from './rules.js'
export type { Config } from './settings.js'
export { settings } from './settings.js'

/** Everything wrong with the environment, a sentence each. */
export class ConfigError extends Error {
  readonly mistakes: string[]
  constructor(mistakes: string[]) {
    super(
      `The configuration has ${mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`}:\n  ${mistakes.join('\n  ')}`,
    )
    this.mistakes = mistakes
  }
}

/**
 * Reads and checks the whole environment.
 * @throws ConfigError that lists every mistake, likely misspellings of settings too.
 */
export function loadConfig(env: Record<string, string | undefined>): Config {
  const mistakes: string[] = []
  const values: Record<string, unknown> = {}
  for (const [name, setting] of Object.entries(settings) as [SettingName, Setting<unknown>][]) {
    try {
      const given = setting.secret ? secretText(name, env) : env[name]
      values[name] = setting.parse((given || setting.default).trim())
    } catch (error) {
      mistakes.push(`${name} ${(error as Error).message}`)
    }
  }
  mistakes.push(...misspellings(env))
  // Not written out, it follows a broker with a short consumer timeout.
  if (!env['MAX_LEASE'] && values['BROKER_CONSUMER_TIMEOUT'] !== undefined)
    values['MAX_LEASE'] = Math.min((values as Config).MAX_LEASE, longestLease(values as Config))
  mistakes.push(...brokenRules(values as Partial<Config>))
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  return Object.freeze(values) as Config
}

function secretText(name: string, env: Record<string, string | undefined>): string | undefined {
  const file = env[`${name}_FILE`]
  if (!file) return env[name]
  if (env[name]) throw new Error(`and ${name}_FILE are both set: give one`)
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new Error(`can't be read from ${name}_FILE: ${(error as NodeJS.ErrnoException).code}`)
  }
}

/** Names that look like settings and are none: one or two letters off, or with a prefix that none of ours has. */
function misspellings(env: Record<string, string | undefined>): string[] {
  const known = Object.entries(settings as Record<string, Setting<unknown>>).flatMap(([name, { secret }]) =>
    secret ? [name, `${name}_FILE`] : [name],
  )
  const mistakes: string[] = []
  for (const [name, value] of Object.entries(env)) {
    if (known.includes(name) || value === undefined) continue
    const bare = name.replace(/^(RABBITMQ_HTTP_)?GATEWAY_/, '')
    // Kubernetes puts GATEWAY_PORT=tcp://… and GATEWAY_SERVICE_HOST into every pod beside a service named "gateway".
    const fromKubernetes = /^(SERVICE_(HOST|PORT)|PORT_\d)/.test(bare) || /^(tcp|udp):/.test(value)
    if (fromKubernetes) continue
    const near = nearest(bare, known)
    if (near !== undefined && (bare !== name || near !== bare)) mistakes.push(`${name} is not a setting: did you mean ${near}?`)
    else if (bare !== name) mistakes.push(`${name} is not a setting`)
  }
  return mistakes
}

/** The setting that a name most likely means: itself, or one or two letters off, which only longer names can bear. */
function nearest(name: string, known: string[]): string | undefined {
  if (known.includes(name)) return name
  const near = known
    .map((one) => ({ one, letters: distance(one, name) }))
    .filter(({ one, letters }) => one.length > 5 && letters <= (one.length > 8 ? 2 : 1))
  return near.sort((a, b) => a.letters - b.letters)[0]?.one
}

/** Levenshtein distance, for two short names. */
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
