// The positions of values in a JSON text.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { arrayItems, objectMembers } from '../../src/messages/json-slices.js'

const layout = fc.constantFrom(undefined, 1, '\t', '\n \r')
const text = (value: unknown, space: number | string | undefined): string => JSON.stringify(value, null, space)

describe('slices of a JSON text', () => {
  it('the slices of an array are its items as they were written', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), layout, (items, space) => {
        const json = ` ${text(items, space)}`
        const cut = arrayItems(json).map(({ start, end }) => json.slice(start, end))
        assert.deepEqual(
          cut.map((item) => JSON.parse(item)),
          JSON.parse(json),
        )
        for (const item of cut) assert.equal(item, item.trim())
      }),
    )
  })

  it('the slices of an object are its members, whatever their names', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue()), layout, (members, space) => {
        const json = text(members, space)
        const cut = [...objectMembers(json)].map(([name, { start, end }]) => [name, JSON.parse(json.slice(start, end))])
        assert.deepEqual(cut, Object.entries(JSON.parse(json)))
      }),
    )
  })

  it('a sliced number has all its digits, and the last of two members with the same name counts', () => {
    const json = '{"a": 1.10e+400 , "b":[ 123456789012345678901234567890],"a":-0.0}'
    const members = objectMembers(json)
    const slice = (name: string) => json.slice(members.get(name)!.start, members.get(name)!.end)
    assert.equal(slice('a'), '-0.0')
    assert.equal(slice('b'), '[ 123456789012345678901234567890]')
    const [item] = arrayItems(json, members.get('b')!.start)
    assert.equal(json.slice(item!.start, item!.end), '123456789012345678901234567890')
  })
})
