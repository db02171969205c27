// CloudEvents in binary mode: `ce-*` HTTP headers and `cloudEvents:*` AMQP headers, one for one.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md (3.1)
// and amqp-protocol-binding.md

import type { IncomingHttpHeaders } from 'node:http'
import { type FieldValue, TypedValue } from '../amqp/wire/field-table.js'

/** `ce-`, and what the AMQP binding and its JMS-safe variant write. */
const AMQP_PREFIX = /^(?:cloudEvents[:_]|ce-)(?=.)/

const DEFAULT_PREFIX = 'cloudEvents:'

/**
 * Names the AMQP header of an HTTP header `ce-…`. A message has one prefix for all attributes: that of those it has already.
 * @param present the names of the AMQP headers that the message has already
 */
export function attributeNames(present: readonly string[]): (httpName: string) => string {
  const own = new Map(present.map((name) => [toHttpName(name), name]))
  const prefix = present.map((name) => AMQP_PREFIX.exec(name)?.[0]).find((found) => found !== undefined) ?? DEFAULT_PREFIX
  return (httpName) => own.get(httpName) ?? `${prefix}${httpName.slice('ce-'.length)}`
}

/** The HTTP header of an AMQP header that is a CloudEvents attribute; undefined for every other. */
export function toHttpName(amqpName: string): string | undefined {
  return AMQP_PREFIX.test(amqpName) ? `ce-${amqpName.replace(AMQP_PREFIX, '').toLowerCase()}` : undefined
}

/**
 * An attribute as text, whatever type it has in AMQP; undefined if it cannot be an attribute.
 * https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md (2.2) and spec.md (2.2)
 */
export function attributeText(value: FieldValue): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean' || Number.isInteger(value)) return String(value)
  if (Buffer.isBuffer(value)) return value.toString('base64')
  const isTime = value instanceof TypedValue && value['!'] === 'timestamp'
  const time = isTime ? new Date(Number(value.value) * 1000) : undefined
  return time && !Number.isNaN(time.getTime()) ? time.toISOString() : undefined
}

/** The required attributes of an event; `id` comes first. */
export const REQUIRED = ['id', 'specversion', 'source', 'type'] as const

/**
 * The attributes that an event in binary mode lacks. A message is such an event if it has `ce-specversion` and its content type
 * does not say structured mode. Without it, other `ce-*` headers are ordinary headers.
 * @param attribute the value of the attribute with this HTTP name
 * https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md (required attributes: strings that are not empty)
 */
export function missingAttributes(http: IncomingHttpHeaders, attribute: (httpName: string) => unknown): string[] {
  if (http['ce-specversion'] === undefined || /^application\/cloudevents/i.test(http['content-type'] ?? '')) return []
  return REQUIRED.map((name) => `ce-${name}`).filter((name) => !attribute(name))
}

/** Decodes a percent-encoded header value; undefined if the encoding is broken. */
export function decodePercent(value: string): string | undefined {
  if (!value.includes('%')) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return undefined
  }
}

/** Percent-encodes what is not visible ASCII, for a header value. */
export function encodePercent(value: string): string {
  return value.toWellFormed().replace(/[^\u0021\u0023-\u0024\u0026-\u007e]/gu, (character) => encodeURIComponent(character))
}
