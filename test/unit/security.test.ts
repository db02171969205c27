// The code and the tests that docs/security.md names exist.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'

describe('security documentation', () => {
  const text = readFileSync('docs/security.md', 'utf8')
  const rows = text.split('\n').filter((line) => /^\| /.test(line) && line.includes('test/'))

  it('every file that docs/security.md names exists', () => {
    const files = [...text.matchAll(/`((?:src|test)\/[\w./-]+)`/g)].map(([, file]) => file!)
    assert.ok(files.length > 40, `${files.length} files`)
    assert.deepEqual(
      files.filter((file) => !existsSync(file)),
      [],
    )
  })

  it('every promise of docs/security.md names a test', () => {
    assert.ok(rows.length > 30, `${rows.length} promises`)
    const tables = text.slice(text.indexOf('## What is checked'), text.indexOf('## What is left'))
    const promises = tables.split('\n').filter((line) => /^\| (?!what |attempt )/.test(line))
    assert.deepEqual(
      promises.filter((line) => !/`test\//.test(line)),
      [],
    )
  })
})
