// Arbitrary values for property tests: AMQP headers in their JSON form, names, and values of a JSON schema.

import fc from 'fast-check'

const MAX_INT64 = 2n ** 63n - 1n

/** A header key that the gateway accepts: neither "!" nor `amqp_type`, which would make its table a tagged value. */
export const headerName = fc
  .oneof(
    fc.string({ maxLength: 40 }),
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.constantFrom('__proto__', 'constructor', 'toString', 'x-death-not', 'CC-not', '', ' ', 'value', '0'),
  )
  .filter((name) => name !== '!' && name !== 'amqp_type' && Buffer.byteLength(name) <= 128 && name.isWellFormed())

const text = fc.oneof(
  fc.string({ maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 30 }),
  fc.constantFrom('', '\u0000', '🐇'),
)

/** Header values as the gateway itself writes them, so that they are unchanged after a round trip. */
const leaf: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.boolean(),
  fc.constant(null),
  fc.maxSafeInteger().map((value) => value + 0), // not -0, which AMQP's integers do not have
  fc.double({ noNaN: true, noDefaultInfinity: true, noInteger: true }),
  fc
    .bigInt({ min: -MAX_INT64 - 1n, max: MAX_INT64 })
    .filter((value) => value < Number.MIN_SAFE_INTEGER || value > Number.MAX_SAFE_INTEGER)
    .map((value) => ({ amqp_type: 'int64', value: String(value) })),
  fc.constantFrom(`${MAX_INT64}`, `${-MAX_INT64 - 1n}`, '9007199254740992').map((value) => ({ amqp_type: 'int64', value })),
  fc.nat(Number.MAX_SAFE_INTEGER).map((value) => ({ amqp_type: 'timestamp', value })),
  fc.uint8Array({ maxLength: 60 }).map((bytes) => ({ amqp_type: 'bytes', value: Buffer.from(bytes).toString('base64') })),
  fc
    .record({ places: fc.nat(255), digits: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) })
    .map((value) => ({ amqp_type: 'decimal', value })),
)

const { table } = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: 'small' },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    tie('table'),
    // A table that has a key with the name of the tag.
    tie('table').map((value) => ({ amqp_type: 'table', value: { ...value, amqp_type: 'mine' } })),
  ),
  table: fc.dictionary(headerName, tie('value'), { maxKeys: 5 }) as fc.Arbitrary<Record<string, unknown>>,
}))

/** AMQP headers in their JSON form, of every type that it has. */
export const headers: fc.Arbitrary<Record<string, unknown>> = table

/** Valid names of queues, exchanges and vhosts: 1 to 255 bytes of UTF-8 without control characters. */
export const name = fc
  .oneof(fc.string({ minLength: 1, maxLength: 200 }), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }))
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a name must not contain them
  .filter((name) => Buffer.byteLength(name) <= 255 && !/[\u0000-\u001f\u007f]/.test(name))

/** The keywords of JSON Schema that fromSchema() knows. */
export interface JsonSchema {
  $ref?: string
  type?: string
  enum?: unknown[]
  anyOf?: JsonSchema[]
  items?: JsonSchema
  properties?: Record<string, JsonSchema>
  required?: string[]
  additionalProperties?: boolean
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  maxItems?: number
  examples?: unknown[]
}

/** Values that match a schema of the OpenAPI document. @param schemas the document's schemas by name, for `$ref` */
export function fromSchema(schema: JsonSchema, schemas: Record<string, unknown>): fc.Arbitrary<unknown> {
  if (schema.$ref) return fromSchema(schemas[schema.$ref.split('/').pop()!] as JsonSchema, schemas)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((one) => fromSchema(one, schemas)))
  const examples = schema.examples ? [fc.constantFrom(...schema.examples)] : []
  switch (schema.type) {
    case 'boolean':
      return fc.boolean()
    case 'integer':
      return fc.integer({ min: schema.minimum ?? -10, max: schema.maximum ?? 10 })
    case 'number':
      return fc.double({ min: schema.minimum ?? -1e9, max: schema.maximum ?? 1e9, noNaN: true })
    case 'string': {
      const { minLength = 0, maxLength = 40 } = schema
      return fc.oneof(...examples, fc.string({ minLength, maxLength: Math.min(maxLength, 40) }))
    }
    case 'array':
      return fc.array(fromSchema(schema.items ?? {}, schemas), { maxLength: Math.min(schema.maxItems ?? 5, 5) })
    case 'object': {
      const { properties = {}, required = [] } = schema
      const members = Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, fromSchema(one, schemas)]))
      const known = fc.record(members, { requiredKeys: required })
      // `additionalProperties: true` stands for AMQP's tables.
      const open = schema.additionalProperties === true ? [headers] : []
      return fc.oneof(...examples, known, ...open)
    }
    default:
      return fc.jsonValue()
  }
}

const deep = (depth: number): unknown => {
  let value: unknown = 1
  for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value }
  return value
}

/** Text that is likely to break a parser: control characters, half of a surrogate pair, long text, other syntaxes. */
export const oddText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.constantFrom(
    '',
    ' ',
    '\u0000',
    '\r\n',
    '..',
    '../..',
    '/',
    '%',
    '%00',
    '%zz',
    '{}',
    '[]',
    'null',
    'NaN',
    '1e999',
    '-1',
    '-0',
    '0',
    '1.5',
  ),
  fc.constantFrom(
    '\ud800',
    '🐇'.repeat(70),
    'ü'.repeat(127),
    'ü'.repeat(128),
    'x'.repeat(255),
    'x'.repeat(256),
    'x'.repeat(3000),
  ),
  fc.constantFrom(
    'true',
    'yes',
    '99999999999999999999',
    '1s',
    '60s',
    '30d',
    '0ms',
    '* or 1=1',
    '<script>',
    '<!-- -->',
    '__proto__',
  ),
)

/** Values that are probably not valid, whatever is expected. */
export const odd: fc.Arbitrary<unknown> = fc.oneof(
  oddText,
  fc.constantFrom(
    null,
    true,
    false,
    0,
    -1,
    1.5,
    1e300,
    -1e300,
    2 ** 53,
    2 ** 63,
    -(2 ** 63),
    2 ** 50 + 0.5,
    [],
    {},
    [[]],
    [null],
  ),
  fc.constantFrom(
    { '!': 'int8', value: 1000 },
    { amqp_type: 'nope' },
    { amqp_type: 'int64', value: '9'.repeat(30) },
    deep(12),
    deep(40),
  ),
  fc.jsonValue(),
)
