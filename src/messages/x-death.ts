// Why a message was dead-lettered, from RabbitMQ's header: https://www.rabbitmq.com/docs/dlx#effects

import { type FieldTable, type FieldValue, TypedValue } from '../amqp/wire/field-table.js'

/** Why RabbitMQ dead-letters: https://www.rabbitmq.com/docs/dlx */
const REASONS = ['rejected', 'expired', 'maxlen', 'delivery_limit']

/**
 * Why a value cannot be the header `x-death`; undefined if it can. A queue of RabbitMQ 3 crashes over some values that RabbitMQ
 * does not write itself when it dead-letters the message, and its other messages are out of reach.
 */
export function xDeathError(value: FieldValue): string | undefined {
  if (!Array.isArray(value)) return 'must be an array of tables, as RabbitMQ writes it'
  return value.every(isDeath) ? undefined : 'must have the members that RabbitMQ writes, with its types'
}

function isDeath(value: FieldValue): boolean {
  if (typeof value !== 'object' || value === null || value instanceof TypedValue) return false
  if (Array.isArray(value) || Buffer.isBuffer(value)) return false
  const { queue, exchange, 'routing-keys': keys, reason, count, time } = value
  const areTexts = isText(queue) && isText(exchange) && Array.isArray(keys) && keys.every(isText)
  const isTime = time === undefined || (time instanceof TypedValue && time['!'] === 'timestamp')
  return areTexts && isTime && typeof reason === 'string' && REASONS.includes(reason) && isCount(count)
}

/** Names are bytes to RabbitMQ. */
const isText = (value: FieldValue | undefined): boolean => typeof value === 'string' || Buffer.isBuffer(value)

function isCount(value: FieldValue | undefined): boolean {
  const count = value instanceof TypedValue && ['int32', 'int64'].includes(value['!']) ? Number(value.value) : value
  return typeof count === 'number' && Number.isInteger(count) && count >= 0
}

export interface Death {
  queue: string
  exchange: string
  routing_keys: string[]
  reason: string
  count: number
  time?: string
}

/** The deaths, the last queue first; undefined if there are none, or the header does not have RabbitMQ's form. */
export function deathsOf(headers: FieldTable | undefined): Death[] | undefined {
  const list = headers?.['x-death']
  if (!Array.isArray(list) || list.length === 0) return undefined
  const deaths = list.map(deathOf)
  return deaths.every((death) => death !== undefined) ? deaths : undefined
}

function deathOf(value: FieldValue): Death | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { queue, exchange, 'routing-keys': keys, reason, count, time } = value as FieldTable
  if (typeof queue !== 'string' || typeof exchange !== 'string' || typeof reason !== 'string') return undefined
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string')) return undefined
  const times = Number(count instanceof TypedValue ? count.value : count)
  if (!Number.isSafeInteger(times) || times < 1) return undefined
  const at = time instanceof TypedValue && time['!'] === 'timestamp' ? new Date(Number(time.value) * 1000) : undefined
  const isTime = at !== undefined && !Number.isNaN(at.getTime())
  return { queue, exchange, routing_keys: keys as string[], reason, count: times, ...(isTime && { time: at.toISOString() }) }
}
