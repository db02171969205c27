// The files for operators list the settings of the program.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { settings } from '../../src/config/index.js'

const expected = Object.entries(settings).map(([name, setting]) => [name, setting.default])

describe('documentation of the settings', () => {
  it('.env.example lists every setting with its default and no other', () => {
    const lines = readFileSync('.env.example', 'utf8').split('\n')
    const listed = lines.map((line) => /^#?([A-Z][A-Z0-9_]*)=(.*)$/.exec(line)).filter((match) => match !== null)
    assert.deepEqual(
      listed.map(([, name, value]) => [name, value]),
      expected,
    )
  })

  it('.env.example explains every setting with the text of the program', () => {
    const text = readFileSync('.env.example', 'utf8')
    for (const [name, { doc }] of Object.entries(settings)) assert.ok(text.includes(`# ${doc}\n`), name)
  })

  it('docs/operations.md lists every setting with its default and no other', () => {
    const rows = readFileSync('docs/operations.md', 'utf8').matchAll(/^\| *`([A-Z][A-Z0-9_]*)` *\| *(?:`([^`]*)`)? *\|/gm)
    const listed = [...rows].map(([, name, value = '']): [string, string] => [name!, value])
    assert.deepEqual(
      listed.sort(([a], [b]) => a.localeCompare(b)),
      (expected as [string, string][]).toSorted(([a], [b]) => a.localeCompare(b)),
    )
  })
})
