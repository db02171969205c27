// The files for operators list the settings that the program reads.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { settings } from '../../src/config/index.js'

const expected = Object.entries(settings).map(([name, setting]) => [name, setting.default])

describe('lists of settings', () => {
  it('.env.example lists exactly the settings, with their defaults', () => {
    const lines = readFileSync('.env.example', 'utf8').split('\n')
    const listed = lines.map((line) => /^#?([A-Z][A-Z0-9_]*)=(.*)$/.exec(line)).filter((match) => match !== null)
    assert.deepEqual(
      listed.map(([, name, value]) => [name, value]),
      expected,
    )
  })

  it('.env.example and docs/operations.md describe each setting as the program does', () => {
    const [example, page] = ['.env.example', 'docs/operations.md'].map((file) => readFileSync(file, 'utf8'))
    for (const [name, { doc }] of Object.entries(settings)) {
      assert.ok(example!.includes(`# ${doc}\n`), name)
      assert.ok(page!.includes(`| ${doc} |\n`), name)
    }
  })

  it('docs/operations.md lists exactly the settings, with their defaults', () => {
    const rows = readFileSync('docs/operations.md', 'utf8').matchAll(/^\| *`([A-Z][A-Z0-9_]*)` *\| *(?:`([^`]*)`)? *\|/gm)
    const listed = [...rows].map(([, name, value = '']): [string, string] => [name!, value])
    assert.deepEqual(
      listed.sort(([a], [b]) => a.localeCompare(b)),
      (expected as [string, string][]).toSorted(([a], [b]) => a.localeCompare(b)),
    )
  })
})
