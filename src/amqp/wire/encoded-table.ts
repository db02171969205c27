// Field tables as the bytes that stand on the wire. A table that the gateway publishes again is changed as bytes, so that what it
// does not change keeps its types, its order, and whatever it has that the gateway cannot read.

/** An encoded table with its length of four bytes, as it stands in a content header. */
export type EncodedTable = Buffer

const LENGTH_BYTES = 4
const FIXED_SIZES: Readonly<Record<string, number>> = {
  V: 0,
  t: 1,
  b: 1,
  B: 1,
  s: 2,
  u: 2,
  I: 4,
  i: 4,
  f: 4,
  D: 5,
  l: 8,
  L: 8,
  d: 8,
  T: 8,
}

/** A field of a table. The name is read as Latin-1, one character for each byte. */
export interface EncodedField {
  name: string
  /** With the name. */
  bytes: Buffer
  /** With its type tag. */
  value: Buffer
}

/**
 * The fields of a table, in their order, up to one that cannot be told from what follows it.
 * @param bytes the fields without a length
 */
export function* fieldsOf(bytes: Buffer): Generator<EncodedField> {
  for (let at = 0; at < bytes.length; ) {
    const tagAt = at + 1 + bytes.readUInt8(at)
    if (tagAt >= bytes.length) return
    const end = valueEnd(bytes, tagAt)
    if (end === undefined || end > bytes.length) return
    yield { name: bytes.toString('latin1', at + 1, tagAt), bytes: bytes.subarray(at, end), value: bytes.subarray(tagAt, end) }
    at = end
  }
}

/** Where the value ends whose type tag stands at `tagAt`; undefined if the tag or the length cannot be read. */
function valueEnd(table: Buffer, tagAt: number): number | undefined {
  const tag = String.fromCharCode(table.readUInt8(tagAt))
  const size = FIXED_SIZES[tag]
  if (size !== undefined) return tagAt + 1 + size
  const hasLength = 'SxFA'.includes(tag) && tagAt + 1 + LENGTH_BYTES <= table.length
  return hasLength ? tagAt + 1 + LENGTH_BYTES + table.readUInt32BE(tagAt + 1) : undefined
}

/**
 * The table without some of its fields, and with others at its end. Every byte of the fields that stay is as it was.
 * @param removes whether a field goes, by its name in Latin-1
 * @param more encoded fields, without a length
 */
export function editTable(table: EncodedTable, removes: (name: string) => boolean, more: Buffer): EncodedTable {
  const fields = fieldBytes(table)
  const kept: Buffer[] = []
  let from = 0
  let at = 0
  for (const { name, bytes } of fieldsOf(fields)) {
    if (removes(name)) {
      kept.push(fields.subarray(from, at))
      from = at + bytes.length
    }
    at += bytes.length
  }
  kept.push(fields.subarray(from), more)
  return withLength(kept)
}

/** A table of encoded fields. */
function withLength(fields: readonly Buffer[]): EncodedTable {
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32BE(fields.reduce((sum, bytes) => sum + bytes.length, 0))
  return Buffer.concat([length, ...fields])
}

/** A table without fields. */
export const EMPTY_TABLE: EncodedTable = Buffer.alloc(LENGTH_BYTES)

/** The fields of an encoded table, without its length. */
export const fieldBytes = (table: EncodedTable): Buffer => table.subarray(LENGTH_BYTES)

/** Headers that decide where RabbitMQ routes a message, beside its routing key. */
export const isRoutingHeader = (name: string): boolean => name === 'CC' || name === 'BCC'
