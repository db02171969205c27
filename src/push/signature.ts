// Signatures by Standard Webhooks 1.0, so that an endpoint can verify the sender:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

import { createHmac, randomBytes } from 'node:crypto'
import { encodePercent } from '../messages/cloudevents.js'

const SECRET_PREFIX = 'whsec_'
const MIN_SECRET_BYTES = 24
const MAX_SECRET_BYTES = 64

/** A new random secret. */
export const newSecret = (): string => SECRET_PREFIX + randomBytes(32).toString('base64')

/** Why a text is not a secret, without quoting it; undefined if it is one. */
export function secretError(text: string): string | undefined {
  const bytes = signingKey(text)
  if (!text.startsWith(SECRET_PREFIX) || bytes.toString('base64') !== text.slice(SECRET_PREFIX.length))
    return 'is not whsec_ and base64'
  return bytes.length < MIN_SECRET_BYTES || bytes.length > MAX_SECRET_BYTES
    ? `has not ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes`
    : undefined
}

/** A message id as `webhook-id`: unchanged, or percent-encoded if it has other characters than visible ASCII. */
export const webhookId = (messageId: string): string => (/^[\x21-\x7e]+$/.test(messageId) ? messageId : encodePercent(messageId))

/**
 * The headers that sign a body, with every secret: an endpoint accepts any signature that it can verify.
 * @param at milliseconds since 1970
 */
export function signatureHeaders(secrets: readonly string[], id: string, at: number, body: Buffer): Record<string, string> {
  const timestamp = String(Math.floor(at / 1000))
  const signatures = secrets.map((secret) => {
    const mac = createHmac('sha256', signingKey(secret)).update(`${id}.${timestamp}.`).update(body)
    return `v1,${mac.digest('base64')}`
  })
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') }
}

const signingKey = (secret: string): Buffer => Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64')
