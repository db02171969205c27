// Parsing and formatting of durations and sizes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { formatDuration, parseDuration, parseSize } from '../../src/lib/units.js'

describe('durations', () => {
  it('a duration is a number with a unit, or a number of seconds', () => {
    const durations = {
      '500ms': 500,
      '30s': 30_000,
      '5m': 300_000,
      '1h': 3_600_000,
      '2d': 172_800_000,
      '7': 7000,
      '0': 0,
      '1.5s': 1500,
      '0.5': 500,
    }
    for (const [text, milliseconds] of Object.entries(durations)) assert.equal(parseDuration(text), milliseconds, text)
  })

  it('other texts are not durations', () => {
    for (const text of [
      '',
      ' ',
      's',
      '-1s',
      '+1',
      '1 s',
      ' 1s',
      '1S',
      '1min',
      '1e3',
      '0x10',
      '1,5s',
      '.5s',
      '1.s',
      '1s1',
      '1s\n',
      'NaN',
      '٣s',
    ]) {
      assert.equal(parseDuration(text), undefined, JSON.stringify(text))
    }
    assert.equal(parseDuration('9'.repeat(13)), undefined)
  })

  it('a formatted duration parses to the same value', () => {
    fc.assert(
      fc.property(fc.nat(10 ** 10), (milliseconds) => {
        assert.equal(parseDuration(formatDuration(milliseconds)), milliseconds)
      }),
    )
    assert.equal(formatDuration(25 * 60_000), '25m')
    assert.equal(formatDuration(1500), '1500ms')
    assert.equal(formatDuration(0), '0ms')
  })

  it('parsing a duration never throws', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const value = parseDuration(text)
        assert.ok(value === undefined || Number.isSafeInteger(value))
      }),
    )
  })
})

describe('sizes', () => {
  it('a size is a number with a unit, or a number of bytes', () => {
    const sizes = { '0': 0, '1': 1, '512KiB': 524_288, '16MiB': 16_777_216, '1GiB': 1_073_741_824, '5 B': 5, '2 MiB': 2_097_152 }
    for (const [text, bytes] of Object.entries(sizes)) assert.equal(parseSize(text), bytes, text)
  })

  it('other texts are not sizes', () => {
    for (const text of ['', 'MiB', '-1', '1.5MiB', '1MB', '1mib', '1e3', '16MiB ', 'x'])
      assert.equal(parseSize(text), undefined, text)
  })
})
