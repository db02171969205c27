// The rights of a token, from the claims that JWT_SCOPE_CLAIMS names. Identity providers put them into different claims, in
// different forms, and some can only put names of roles into a token, which JWT_SCOPE_ALIASES translates.

import type { Config } from '../config/index.js'
import { type Grant, parseGrant } from './rights.js'

type Settings = Pick<Config, 'JWT_SCOPE_CLAIMS' | 'JWT_SCOPE_ALIASES' | 'JWT_SCOPE_PREFIX' | 'JWT_AUDIENCE'>

const MAX_SCOPES = 1000

/** Scopes that are not rights are ignored: most tokens have some. */
export function grantsOf(claims: unknown, settings: Settings): Grant[] {
  const scopes = settings.JWT_SCOPE_CLAIMS.flatMap((path) => scopesAt(claims, path.split('.')))
  return scopes.slice(0, MAX_SCOPES).flatMap((scope) => rightsBehind(scope, settings).flatMap(readGrant))
}

/** Tells the owner of a token why it gives no right at all. */
export function noRightsHint({ JWT_SCOPE_CLAIMS, JWT_SCOPE_PREFIX }: Settings): string {
  const where =
    JWT_SCOPE_CLAIMS.length === 1 ? `its claim ${JWT_SCOPE_CLAIMS[0]}` : `none of its claims ${JWT_SCOPE_CLAIMS.join(', ')}`
  const verb = JWT_SCOPE_CLAIMS.length === 1 ? 'has none' : 'has one'
  const prefix = JWT_SCOPE_PREFIX === undefined ? '' : ` with the prefix ${JWT_SCOPE_PREFIX}`
  return `The token has no right at all: ${where} ${verb}${prefix}.`
}

/** The texts at a path. Names of claims may have dots in them, and lists may stand anywhere on the way. */
function scopesAt(value: unknown, path: readonly string[]): string[] {
  if (Array.isArray(value))
    return value.flatMap((item) => (path.length === 0 && typeof item === 'string' ? item : scopesAt(item, path)))
  if (path.length === 0) return typeof value === 'string' ? value.split(' ') : []
  if (typeof value !== 'object' || value === null) return []
  return path.flatMap((_, end) => {
    const name = path.slice(0, end + 1).join('.')
    return Object.hasOwn(value, name) ? scopesAt((value as Record<string, unknown>)[name], path.slice(end + 1)) : []
  })
}

function rightsBehind(scope: string, settings: Settings): readonly string[] {
  const right = withoutPrefix(scope, settings)
  const aliases = settings.JWT_SCOPE_ALIASES
  return aliases.get(scope) ?? (right === undefined ? [] : (aliases.get(right) ?? [right]))
}

function withoutPrefix(scope: string, { JWT_SCOPE_PREFIX, JWT_AUDIENCE }: Settings): string | undefined {
  const prefix = JWT_SCOPE_PREFIX ?? JWT_AUDIENCE
  if (prefix !== '') {
    for (const start of [`${prefix}.`, prefix]) if (scope.startsWith(start)) return scope.slice(start.length)
    // As in RabbitMQ: with a configured prefix, a scope without it is meant for another service.
    if (JWT_SCOPE_PREFIX !== undefined) return undefined
  }
  return scope
}

function readGrant(right: string): Grant[] {
  try {
    return [parseGrant(right)]
  } catch {
    return []
  }
}
