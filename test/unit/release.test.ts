// The version stands in one place, and scripts/release.mjs changes the changelog and nothing else of the files.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { document } from '../../openapi/document.js'
import { isGreater, releaseChangelog, withVersion } from '../../scripts/release.mjs'

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }

const CODE = ['src', 'routes', 'openapi', 'bench', 'scripts']

describe('the version', () => {
  it('package.json and package-lock.json have the same version', () => {
    const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
      version: string
      packages: Record<string, { version: string }>
    }
    assert.equal(lock.version, version)
    assert.equal(lock.packages['']?.version, version)
  })

  it('the OpenAPI document has the version of package.json', () => {
    assert.equal(document.info.version, version)
    const written = JSON.parse(readFileSync('openapi/openapi.json', 'utf8')) as typeof document
    assert.equal(written.info.version, version)
  })

  it('no source file repeats the version', async () => {
    const repeating: string[] = []
    for (const folder of CODE) {
      for (const file of await readdir(folder, { recursive: true })) {
        if (!/\.(ts|mjs)$/.test(file)) continue
        const text = await readFile(join(folder, file), 'utf8')
        if (new RegExp(`['"\`]v?${version.replaceAll('.', '\\.')}['"\`]`).test(text)) repeating.push(join(folder, file))
      }
    }
    assert.deepEqual(repeating, [])
  })

  it('a greater version is recognized by its numbers', () => {
    assert.ok(isGreater('0.10.0', '0.9.9'))
    assert.ok(isGreater('1.0.0', '0.99.99'))
    assert.ok(!isGreater('0.1.0', '0.1.0'))
    assert.ok(!isGreater('0.9.9', '0.10.0'))
    assert.throws(() => isGreater('v1.0.0', '0.1.0'), /not a version/)
    assert.throws(() => isGreater('1.0', '0.1.0'), /not a version/)
  })

  it('setting a version in the lock file changes only its two versions', () => {
    const lines = readFileSync('package-lock.json', 'utf8').split('\n')
    const changed = withVersion(lines.join('\n'), '98.7.6').split('\n')
    assert.equal(changed.length, lines.length)
    assert.deepEqual(
      changed.filter((line, index) => line !== lines[index]).map((line) => line.trim()),
      ['"version": "98.7.6",', '"version": "98.7.6",'],
    )
  })
})

describe('releasing in the changelog', () => {
  const changelog = '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- One.\n\n## [0.1.0] - 2026-11-23\n\n- Old.\n'

  it('unreleased changes become the changes of the version, and an empty section is left', () => {
    assert.equal(
      releaseChangelog(changelog, '0.2.0', '2026-12-01'),
      '# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- One.\n\n## [0.1.0] - 2026-11-23\n\n- Old.\n',
    )
  })

  it('a first release needs no older section', () => {
    assert.equal(
      releaseChangelog('## [Unreleased]\n\n- One.\n', '0.1.0', '2026-12-01'),
      '## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n- One.\n',
    )
  })

  it('a section without changes is refused, also if it has headings', () => {
    const released = releaseChangelog(changelog, '0.2.0', '2026-12-01')
    assert.throws(() => releaseChangelog(released, '0.3.0', '2026-12-02'), /no unreleased changes/)
    assert.throws(() => releaseChangelog(changelog.replace('- One.\n', ''), '0.2.0', '2026-12-01'), /no unreleased changes/)
    assert.throws(() => releaseChangelog('# Changelog\n', '0.2.0', '2026-12-01'), /no section/)
  })

  it('a version that the changelog already has is refused', () => {
    assert.throws(() => releaseChangelog(changelog, '0.1.0', '2026-12-01'), /already has/)
  })
})
