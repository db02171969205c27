// The runner of the tests: its order, what it prints, and that it fails with a test.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { slowestFirst } from '../../scripts/run-tests.mjs'

describe('the test runner', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-runner-'))
  after(() => rmSync(dir, { recursive: true }))

  /** Runs a test file with that text. */
  function runFile(text: string): Promise<{ code: unknown; stdout: string }> {
    const file = join(dir, `${Math.random()}.test.mjs`)
    writeFileSync(file, `import { test } from 'node:test'\n${text}\n`)
    const { NODE_TEST_CONTEXT: _, ...env } = process.env // with it, the runner would believe that it is a test file
    return new Promise((done) => {
      execFile(process.execPath, ['scripts/run-tests.mjs', file], { env }, (error, stdout) =>
        done({ code: error?.code ?? 0, stdout }),
      )
    })
  }

  it('a run that passes ends with its counts, the slowest files and exit code 0', async () => {
    const { code, stdout } = await runFile("test('a', () => {})")
    assert.equal(code, 0)
    assert.match(stdout, /^# tests 1\n# suites 0\n# pass 1\n# fail 0\n/m)
    assert.match(stdout, /1 files took \d+ s in all, 2 at a time; the slowest:\n +\d+\.\d s {2}.*\.test\.mjs\n$/)
  })

  it('a test that fails makes the run fail', async () => {
    const { code, stdout } = await runFile("test('a', () => { throw new Error('no') })")
    assert.equal(code, 1)
    assert.match(stdout, /^# pass 0\n# fail 1\n/m)
  })

  it('a file that does not load makes the run fail', async () => {
    const { code, stdout } = await runFile("await import('./missing.mjs')")
    assert.equal(code, 1)
    assert.match(stdout, /^# fail 1\n/m)
  })

  it('files start in the order of their last durations, files without one first by folder', () => {
    const [unit, otherUnit, api] = ['units', 'lines']
      .map((name) => `dist/test/unit/${name}.test.js`)
      .concat('dist/test/api/batch.test.js')
    const fault = 'dist/test/faults/soak.test.js'
    assert.deepEqual(slowestFirst([unit!, otherUnit!, api!, fault], { [unit!]: 1, [otherUnit!]: 7 }), [
      fault,
      api,
      otherUnit,
      unit,
    ])
  })
})
