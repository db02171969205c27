// Types that say the same thing in several places. Most of this file fails in the compiler, not at run time: a property of
// messages, or a member of a reply, that is added in one place only breaks the build here.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Static } from 'typebox'
import type { BatchResultSchema } from '../../openapi/schemas/batch.js'
import type { LeaseSchema } from '../../openapi/schemas/lease.js'
import { MessageHeadersSchema, PropertiesSchema, type ReceiptSchema } from '../../openapi/schemas/message.js'
import type { RedriveSchema } from '../../openapi/schemas/redrive.js'
import type { Properties, TextProperty } from '../../src/amqp/wire/message.js'
import type { LeaseView } from '../../src/leases/commands.js'
import { AMQP_CONTENT_ENCODING, properties } from '../../src/messages/properties.js'
import type { BatchResult } from '../../src/publish/batch.js'
import type { Receipt } from '../../src/publish/publish.js'
import type { redriveToJson } from '../../src/redrive/task.js'

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false
/** The same members, which may be absent in the same way, of the same types. */
type SameShape<A, B> = Same<keyof A, keyof B> extends true ? Same<A, B> : false
/** The same members; those of the value may have narrower types than the schema allows. */
type Fits<Value, Schema> = Same<keyof Value, keyof Schema> extends true ? ([Value] extends [Schema] ? true : false) : false

/** `correlationId` with a separator instead of capitals: `correlation_id`. */
type Separated<Name extends string, By extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `${By}${Lowercase<First>}`}${Separated<Rest, By>}`
  : ''

/** The bytes of texts that are not UTF-8 are no property of their own. */
type Name = Exclude<keyof Properties, 'exact'>
/** RabbitMQ itself reads these. */
type PlainText = 'expiration' | 'userId'
/** Texts may be bytes, and JSON has one type of integers. */
type JsonOf<P extends Name> =
  P extends Exclude<TextProperty, PlainText>
    ? string | { amqp_type: 'bytes'; value: string }
    : Exclude<NonNullable<Properties[P]>, bigint>
type JsonProperties = { [P in Name as Separated<P, '_'>]?: JsonOf<P> }
/** The content type has a header of HTTP's own. */
type AmqpHeader = `amqp-${Separated<Exclude<Name, 'contentType'>, '-'>}`

const sameProperties: [
  table: Same<keyof typeof properties, Exclude<Name, 'headers'>>,
  names: Same<keyof Static<typeof PropertiesSchema>, keyof JsonProperties>,
  // Headers are a table of their own, which the schema does not describe.
  values: SameShape<Omit<Static<typeof PropertiesSchema>, 'headers'>, Omit<JsonProperties, 'headers'>>,
  headers: Same<keyof Static<typeof MessageHeadersSchema>, AmqpHeader>,
] = [true, true, true, true]

const sameReplies: [
  receipt: SameShape<Receipt, Static<typeof ReceiptSchema>>,
  batchResult: SameShape<BatchResult, Static<typeof BatchResultSchema>>,
  lease: SameShape<LeaseView, Static<typeof LeaseSchema>>,
  // The schema shares its target with the request, which may be the name of a queue alone.
  redrive: Fits<ReturnType<typeof redriveToJson>, Static<typeof RedriveSchema>>,
] = [true, true, true, true]

describe('the properties of a message', () => {
  it('have the same names in AMQP, in the table of properties, in JSON and in HTTP headers at compile time', () => {
    assert.ok(sameProperties.every(Boolean))
  })

  it('have the JSON names of the table in the schema of properties', () => {
    const names = Object.values(properties).map(({ json }) => json)
    assert.deepEqual(Object.keys(PropertiesSchema.properties), [...names, 'headers'])
  })

  it('have the HTTP names of the table in the schema of request headers', () => {
    const names = Object.values(properties).map(({ http }) => http)
    const own = names.filter((name) => name.startsWith('amqp-'))
    assert.deepEqual(Object.keys(MessageHeadersSchema.properties).sort(), [...own, AMQP_CONTENT_ENCODING, 'amqp-headers'].sort())
  })
})

describe('a reply that is built outside of the routes', () => {
  it('has the members of its schema at compile time', () => {
    assert.ok(sameReplies.every(Boolean))
  })
})
