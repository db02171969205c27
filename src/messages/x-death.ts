// Why a message was dead-lettered, from RabbitMQ's header: https://www.rabbitmq.com/docs/dlx#effects

import { type FieldTable, type FieldValue, TypedValue } from '../amqp/wire/field-table.js'

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
