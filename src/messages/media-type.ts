// Media types as RFC 9110 compares them (8.3.1): without regard to case, and apart from their parameters.

import { MIMEType, TextDecoder } from 'node:util'
import { Problem } from '../problems.js'

export interface MediaType {
  /** Type and subtype in lower case, such as `application/json`. */
  essence: string
  /** The parameter `charset`, as the client wrote it. */
  charset: string | undefined
}

/** The names of one JSON value a line. */
export const NDJSON_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'] as const

/** A `content-type` header; undefined if there is none, or it is no media type. */
export function mediaTypeOf(header: string | undefined): MediaType | undefined {
  if (header === undefined) return undefined
  try {
    const { essence, params } = new MIMEType(header)
    return { essence, charset: params.get('charset') ?? undefined }
  } catch {
    return undefined
  }
}

/** Whether a `content-type` header says NDJSON, by any of its names. */
export function isNdjson(header: string | undefined): boolean {
  const essence = mediaTypeOf(header)?.essence
  return NDJSON_TYPES.some((name) => name === essence)
}

/**
 * The text of a body in its charset, UTF-8 if it names none, without a byte order mark.
 * @throws Problem unsupported_media_type: the charset is unknown; invalid_request: the bytes are not in it
 */
export function textOf(bytes: Buffer, charset = 'utf-8'): string {
  let decoder: TextDecoder
  try {
    decoder = new TextDecoder(charset, { fatal: true })
  } catch {
    throw new Problem('unsupported_media_type', `The charset ${charset.slice(0, 64)} is unknown here. Send UTF-8.`)
  }
  try {
    return decoder.decode(bytes)
  } catch {
    const detail = `is not ${decoder.encoding.toUpperCase()}`
    throw new Problem('invalid_request', `/body ${detail}`, { errors: [{ pointer: '/body', detail }] })
  }
}

const CONTENT_CODINGS = new Set(
  'aes128gcm br compress dcb dcz deflate exi gzip identity pack200-gzip x-compress x-gzip zstd'.split(' '),
)

/**
 * Whether a `content_encoding` is one of HTTP's content codings, or a list of them. In AMQP it is free text, and some clients put
 * a charset there (Celery `utf-8` and `binary`, Spring `UTF-8`).
 * https://www.iana.org/assignments/http-parameters
 */
export function isContentCoding(encoding: string): boolean {
  return encoding.split(',').every((coding) => CONTENT_CODINGS.has(coding.trim().toLowerCase()))
}

/** Whether the bytes of a payload with this `content_encoding` are compressed, or otherwise not those of its content type. */
export function isEncoded(encoding: string | undefined): boolean {
  return encoding !== undefined && encoding !== '' && isContentCoding(encoding) && !/^\s*identity\s*$/i.test(encoding)
}
