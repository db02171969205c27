// JSON with exact numbers: JavaScript's own parser rounds integers beyond 2^53, and reads 1.0 as 1.

import { withoutMark } from '../lib/byte-order-mark.js'

const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g
const SUSPECT = /\d{16}|\d[.eE]/

/**
 * Parses JSON. A number that JavaScript would change becomes the tagged value that has it exactly:
 * `{"amqp_type": "int64", "value": "9007199254740993"}`, and with `doubles` also `{"amqp_type": "double", "value": 1}` for 1.0.
 * A byte order mark is ignored.
 * @throws SyntaxError
 */
export function parseExact(marked: string, { doubles = false } = {}): unknown {
  const text = withoutMark(marked)
  const plain = JSON.parse(text)
  if (!SUSPECT.test(text)) return plain
  let changed = false
  const exact = text.replace(TOKENS, (token) => {
    if (token.startsWith('"')) return token
    const value = Number(token)
    if (!Number.isInteger(value)) return token // a fraction, or infinite: for the validator to judge
    if (/[.eE]/.test(token)) {
      if (!doubles) return token
      changed = true
      return `{"amqp_type":"double","value":${token}}`
    }
    if (Number.isSafeInteger(value)) return token
    changed = true
    return `{"amqp_type":"int64","value":"${token}"}`
  })
  return changed ? JSON.parse(exact) : plain
}
