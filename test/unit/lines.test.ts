// Splits chunks into lines, wherever the chunks are cut.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { lines } from '../../src/messages/lines.js'

async function* chunksOf(bytes: Buffer, sizes: number[]): AsyncGenerator<Buffer> {
  let at = 0
  for (let n = 0; at < bytes.length; n++) {
    const size = sizes[n % sizes.length]!
    yield bytes.subarray(at, at + size)
    at += size
  }
}

async function read(bytes: Buffer, sizes: number[], maxBytes: number): Promise<(string | undefined)[]> {
  const all: (string | undefined)[] = []
  for await (const line of lines(chunksOf(bytes, sizes), maxBytes)) all.push(line?.toString())
  return all
}

const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 10 })

describe('line splitter', () => {
  it('lines do not depend on the chunks, and the last one needs no line break', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: 'grapheme' })), sizes, fc.boolean(), async (texts, sizes, ended) => {
        const expected = texts.map((text) => text.replaceAll('\n', ''))
        const bytes = Buffer.from(expected.join('\n') + (ended && expected.length > 0 ? '\n' : ''))
        if ((!ended || expected.length === 0) && expected.at(-1) === '') expected.pop()
        assert.deepEqual(await read(bytes, sizes, 10_000), expected)
      }),
    )
  })

  it('a line longer than the limit is reported, and the other lines are complete', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(30)), sizes, fc.integer({ min: 1, max: 20 }), async (lengths, sizes, bound) => {
        const bytes = Buffer.from(lengths.map((length) => `${'x'.repeat(length)}\n`).join(''))
        const expected = lengths.map((length) => (length > bound ? undefined : 'x'.repeat(length)))
        assert.deepEqual(await read(bytes, sizes, bound), expected)
      }),
    )
  })
})
