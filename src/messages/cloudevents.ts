// CloudEvents in binary mode: `ce-*` HTTP headers and `cloudEvents:*` AMQP headers, one for one.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md (3.1) and amqp-protocol-binding.md

/** `ce-`, and what the AMQP binding and its JMS-safe variant write. */
const AMQP_PREFIX = /^(?:cloudEvents[:_]|ce-)(?=.)/

/** The AMQP header of an HTTP header named `ce-…`. */
export const toAmqpName = (httpName: string): string => `cloudEvents:${httpName.slice(3)}`

/** The HTTP header of an AMQP header that is a CloudEvents attribute; undefined for every other. */
export function toHttpName(amqpName: string): string | undefined {
  return AMQP_PREFIX.test(amqpName) ? `ce-${amqpName.replace(AMQP_PREFIX, '').toLowerCase()}` : undefined
}

/** HTTP header values are percent-encoded where they are not plain visible ASCII; undefined for a broken encoding. */
export function decodeValue(value: string): string | undefined {
  if (!value.includes('%')) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return undefined
  }
}

export function encodeValue(value: string): string {
  return value.toWellFormed().replace(/[^\u0021\u0023-\u0024\u0026-\u007e]/gu, (character) => encodeURIComponent(character))
}
