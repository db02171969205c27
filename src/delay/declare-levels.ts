// Declares the queues and exchanges of delayed messages: docs/decisions/0007-delays-as-powers-of-two.md.

import type { Channel } from '../amqp/wire/amqplib.js'
import { DUE_QUEUE, levelName, levelTime, patternsOf, UNDELIVERABLE_QUEUE } from './levels.js'

/** Quorum queues, and dead-lettering that waits for a confirm: no crash of a node loses a waiting message. */
const QUORUM_ARGUMENTS = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 }
const LEVEL_ARGUMENTS = { ...QUORUM_ARGUMENTS, 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' }

/** Declares the queue of due messages, and that of undeliverable ones. */
export async function declareEnds(channel: Channel): Promise<void> {
  await channel.assertQueue(UNDELIVERABLE_QUEUE, { arguments: QUORUM_ARGUMENTS })
  const onLimit = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': UNDELIVERABLE_QUEUE }
  await channel.assertQueue(DUE_QUEUE, { arguments: { ...LEVEL_ARGUMENTS, ...onLimit } })
}

/** Declares one level. The one below it has to exist. */
export async function declareLevel(channel: Channel, level: number): Promise<void> {
  const name = levelName(level)
  const next =
    level === 0
      ? { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': DUE_QUEUE }
      : { 'x-dead-letter-exchange': levelName(level - 1) }
  await channel.assertQueue(name, { arguments: { ...LEVEL_ARGUMENTS, ...next, 'x-message-ttl': levelTime(level) } })
  await channel.assertExchange(name, 'topic', { internal: false })
  const { stay, pass } = patternsOf(level)
  await channel.bindQueue(name, name, stay)
  if (level === 0) await channel.bindQueue(DUE_QUEUE, name, pass)
  else await channel.bindExchange(levelName(level - 1), name, pass)
}
