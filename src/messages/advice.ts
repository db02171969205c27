// What to tell the publisher of a message that is probably not what they meant. It is published all the same: its bytes and its
// content type are theirs to choose.

import type { PublishMessage } from '../amqp/wire/message.js'
import { isJson, isJsonType } from './json.js'
import { isNdjson } from './media-type.js'

/** Larger bodies are not looked at. */
const MAX_LOOKED_AT = 64 * 1024
/** Where a message in its JSON form has its payload, as people write it. */
const NEAR_THE_BEGINNING = 200
const MESSAGE_MEMBERS = new Set(['payload', 'payload_encoding', 'properties', 'routing_key', 'delay', 'id'])
/** curl and PHP send it unless they are told another one. */
const FORM_TYPE = /^application\/x-www-form-urlencoded\s*(?:;|$)/i

/** A sentence for the publisher; undefined if the message looks as it should. */
export function publishAdvice({ exchange, properties: { contentType, headers }, body }: PublishMessage): string | undefined {
  if (exchange === '' && headers?.['x-delay'] !== undefined)
    return 'RabbitMQ ignores the header x-delay here: the message is in the queue at once. To delay it, publish with ?delay=5s.'
  if (contentType === undefined || FORM_TYPE.test(contentType))
    return looksLikeJson(body)
      ? `The body is JSON, but its content type is ${contentType ?? 'not set'}, so that receivers get a string. Publish with content-type: application/json.`
      : undefined
  if (isJsonType(contentType)) return isMessageInJson(body) ? MESSAGE_ADVICE : undefined
  return /json/i.test(contentType) && isNdjson(contentType) ? LINES_ADVICE : undefined
}

const MESSAGE_ADVICE =
  'The whole body was published, with payload and the other members in it. Messages in this form go to /messages/batch.'
const LINES_ADVICE = 'The whole body was published as one message. For a message a line use /messages/batch.'

function looksLikeJson(body: Buffer): boolean {
  const first = body[0]
  return (first === 0x7b || first === 0x5b) && body.length <= MAX_LOOKED_AT && isJson(body.toString('utf8'))
}

/** An object with a payload and at least one other member of a message in its JSON form, and no other members. */
function isMessageInJson(body: Buffer): boolean {
  if (body[0] !== 0x7b || !body.subarray(0, NEAR_THE_BEGINNING).includes('"payload"') || !looksLikeJson(body)) return false
  const names = Object.keys(JSON.parse(body.toString('utf8')) as object)
  return names.length > 1 && names.includes('payload') && names.every((name) => MESSAGE_MEMBERS.has(name))
}
