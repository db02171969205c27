// AMQP field tables (message headers, arguments) from and to JSON, with tags for the types that JSON does not have.

import { encodedSize, type FieldTable, type FieldValue, TypedValue } from '../amqp/wire/field-table.js'
import type { FieldError } from '../problems.js'

const MAX_JSON_DEPTH = 16
const MAX_ERRORS = 20
const MAX_KEY_BYTES = 128
const MAX_TABLE_BYTES = 60 * 1024
const MAX_INT64 = 2n ** 63n - 1n
const MAX_UINT64 = 2n ** 64n - 1n
const PADDED_BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * A field table from parsed JSON. Each value that RabbitMQ or the wire format cannot take becomes an error at its pointer, and
 * the table must not be used then.
 */
export function tableFromJson(json: unknown, pointer: string, errors: FieldError[]): FieldTable {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    errors.push({ pointer, detail: 'must be a JSON object' })
    return {}
  }
  const before = errors.length
  const table = readTable(json as Record<string, unknown>, pointer, errors, 1)
  if (errors.length === before && encodedSize(table) > MAX_TABLE_BYTES) {
    errors.push({ pointer, detail: `is larger than ${MAX_TABLE_BYTES} bytes as AMQP writes it` })
  }
  return table
}

function readTable(json: Record<string, unknown>, pointer: string, errors: FieldError[], depth: number): FieldTable {
  const table: FieldTable = Object.create(null)
  if (depth > MAX_JSON_DEPTH) {
    errors.push({ pointer, detail: `is nested more than ${MAX_JSON_DEPTH} levels deep` })
    return table
  }
  for (const [name, value] of Object.entries(json)) {
    const at = `${pointer}/${escapePointer(name.slice(0, 64))}`
    if (Buffer.byteLength(name) > MAX_KEY_BYTES)
      errors.push({ pointer: at, detail: `has a name of more than ${MAX_KEY_BYTES} bytes` })
    else if (name === '!') errors.push({ pointer: at, detail: 'is a reserved name' })
    else if (!name.isWellFormed()) errors.push({ pointer: at, detail: 'has a name with half a surrogate pair' })
    else table[name] = readValue(value, at, errors, depth)
    if (errors.length >= MAX_ERRORS) break
  }
  return table
}

function readValue(json: unknown, pointer: string, errors: FieldError[], depth: number): FieldValue {
  const fail = (detail: string): null => {
    errors.push({ pointer, detail })
    return null
  }
  switch (typeof json) {
    case 'string':
      return json.isWellFormed() ? json : fail('has half a surrogate pair, which is no UTF-8')
    case 'boolean':
      return json
    case 'number':
      if (!Number.isFinite(json)) return fail('is not a finite number')
      if (!Number.isSafeInteger(json)) return new TypedValue('double', json)
      // amqplib would choose the smallest type that fits, but some clients read types of 8 and 16 bits without their sign.
      return json === (json | 0) ? new TypedValue('int32', json) : json
  }
  if (json === null) return null
  if (Array.isArray(json)) {
    if (depth >= MAX_JSON_DEPTH) return fail(`is nested more than ${MAX_JSON_DEPTH} levels deep`)
    return readArray(json, pointer, errors, depth + 1)
  }
  const object = json as Record<string, unknown>
  if (!Object.hasOwn(object, 'amqp_type')) return readTable(object, pointer, errors, depth + 1)
  const unknown = Object.keys(object).find((key) => key !== 'amqp_type' && key !== 'value')
  if (unknown !== undefined) return fail(`has a member beside amqp_type and value: ${unknown.slice(0, 64)}`)
  return readTagged(object['amqp_type'], object['value'], pointer, errors, depth)
}

function readArray(json: unknown[], pointer: string, errors: FieldError[], depth: number): FieldValue[] {
  const values: FieldValue[] = []
  for (const [index, item] of json.entries()) {
    values.push(readValue(item, `${pointer}/${index}`, errors, depth))
    if (errors.length >= MAX_ERRORS) break
  }
  return values
}

function readTagged(type: unknown, given: unknown, pointer: string, errors: FieldError[], depth: number): FieldValue {
  const fail = (detail: string): null => {
    errors.push({ pointer, detail })
    return null
  }
  // The parser has already tagged a number that JavaScript would change, inside the client's own tag.
  const value = type === 'decimal' || type === 'table' ? given : untagged(given)
  switch (type) {
    case 'int64': {
      const integer = toBigInt(value)
      if (integer === undefined || integer > MAX_INT64 || integer < -MAX_INT64 - 1n) return fail('is not a 64-bit integer')
      return new TypedValue('int64', integer)
    }
    case 'timestamp': {
      const seconds = toBigInt(value)
      if (seconds === undefined || seconds < 0n || seconds > MAX_UINT64) return fail('is not a timestamp in Unix seconds')
      return new TypedValue('timestamp', seconds)
    }
    case 'double':
      return typeof value === 'number' && Number.isFinite(value)
        ? new TypedValue('double', value)
        : fail('is not a finite number')
    case 'bytes':
      return readBase64(value) ?? fail('is not base64')
    case 'decimal': {
      const { places, digits, ...rest } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
      if (!isIntegerText(places, 0, 255) || !isIntegerText(digits, -0x80000000, 0x7fffffff) || Object.keys(rest).length > 0) {
        return fail('is not a decimal like {"places": 2, "digits": 314}')
      }
      // The specification has no sign. Clients that write decimals use two's complement.
      return new TypedValue('decimal', { places, digits: digits >>> 0 })
    }
    case 'table':
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail('is not a table')
      return readTable(value as Record<string, unknown>, pointer, errors, depth + 1)
    default:
      return fail('has an amqp_type other than int64, double, timestamp, bytes, decimal, table')
  }
}

/** The bytes of padded base64; undefined if it is not. */
const readBase64 = (value: unknown): Buffer | undefined =>
  typeof value === 'string' && PADDED_BASE64.test(value) ? Buffer.from(value, 'base64') : undefined

/** The bytes of a value that is tagged as bytes; undefined if it is any other. */
export function taggedBytes(json: unknown): Buffer | undefined {
  if (typeof json !== 'object' || json === null || !('amqp_type' in json) || !('value' in json)) return undefined
  return json.amqp_type === 'bytes' && Object.keys(json).length === 2 ? readBase64(json.value) : undefined
}

/** An integer from parsed JSON, of any size: the parser tags those that JavaScript would change. */
export function wholeNumber(json: unknown): number | bigint | undefined {
  if (typeof json === 'number') return json
  const isTagged = typeof json === 'object' && json !== null && 'amqp_type' in json && json.amqp_type === 'int64'
  return isTagged ? toBigInt(untagged(json)) : undefined
}

function untagged(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'amqp_type' in value && 'value' in value ? value.value : value
}

function toBigInt(value: unknown): bigint | undefined {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  return typeof value === 'string' && /^-?\d{1,20}$/.test(value) ? BigInt(value) : undefined
}

const isIntegerText = (value: unknown, min: number, max: number): value is number =>
  Number.isInteger(value) && (value as number) >= min && (value as number) <= max

/** A name as a part of a JSON pointer (RFC 6901). */
export const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

/** The table as JSON text. Numbers are exact; a double without a fraction is `1.0`. */
export function tableToJson(table: FieldTable): string {
  if (table instanceof TypedValue) return valueToJson(table)
  let json = ''
  for (const name in table) json += `${json === '' ? '' : ','}${JSON.stringify(name)}:${valueToJson(table[name]!)}`
  return `{${json}}`
}

function valueToJson(value: FieldValue): string {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return JSON.stringify(value)
  if (typeof value === 'number') return String(value)
  if (Buffer.isBuffer(value)) return bytesToJson(value)
  if (value instanceof TypedValue) return typedToJson(value)
  if (Array.isArray(value)) return `[${value.map(valueToJson).join(',')}]`
  // A table that happens to have such a member would be taken for a tag.
  return Object.hasOwn(value, 'amqp_type') ? writeTagged('table', tableToJson(value)) : tableToJson(value)
}

function typedToJson({ '!': type, value }: TypedValue): string {
  switch (type) {
    case 'int64':
      return writeTagged('int64', `"${value}"`)
    case 'int32':
      return String(value)
    case 'timestamp':
      return writeTagged('timestamp', typeof value === 'bigint' ? `"${value}"` : String(value))
    case 'double': {
      const digits = Object.is(value, -0) ? '-0' : String(value)
      if (!Number.isFinite(value)) return writeTagged('double', `"${digits}"`)
      return /[e.]/.test(digits) ? digits : `${digits}.0`
    }
    case 'decimal': {
      const { places, digits } = value as { places: number; digits: number }
      return writeTagged('decimal', `{"places":${places},"digits":${digits | 0}}`)
    }
    default:
      return writeTagged(type, JSON.stringify((value as Buffer).toString('base64')))
  }
}

/** Bytes as a tagged value. */
export const bytesToJson = (bytes: Buffer): string => writeTagged('bytes', JSON.stringify(bytes.toString('base64')))

const writeTagged = (type: string, value: string): string => `{"amqp_type":"${type}","value":${value}}`
